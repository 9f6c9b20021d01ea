"""Which settings of a source are read, which mean nothing here, and which are refused: tables, as data.

A setting that nobody reads changes vectors silently. So each key of a configuration is in one of these
tables, or the source is refused by the key's name. A key whose value is null states nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from model_bundle.errors import SourceError


@dataclass(frozen=True)
class KnownSettings:
    """The keys of one kind of file, as whitespace-separated names.

    ``used`` are read, by this package or by transformers. ``without_effect`` cannot change the result of one
    text: training, generation, decoding, padding. ``only`` are features that are not supported, each with the
    values that state their absence.
    """

    used: str
    without_effect: str = ""
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """All settings that are known, whether supported or not."""
        return {*self.used.split(), *self.without_effect.split(), *self.only}

    def check(self, content: Mapping[str, Any], where: str) -> None:
        """Checks that every setting of a file is known.

        Raises:
            SourceError: names a setting that is not, or whose value is not supported.
        """
        known = {*self.used.split(), *self.without_effect.split()}
        for key, value in content.items():
            if value is None or key in known:
                continue
            if key not in self.only:
                raise SourceError(
                    f"{where} sets {key!r} to {value!r}, which no supported model is known to have: it may "
                    "change the vectors, and would be ignored. If it means nothing for this model, remove it "
                    "from the file and build again."
                )
            if value not in self.only[key]:
                expected = " or ".join(map(repr, self.only[key])) or "no such setting"
                raise SourceError(
                    f"{where} sets {key!r} to {value!r}; expected {expected}: a bundle cannot express it. "
                    "Export this model as a TensorFlow SavedModel and build a bundle from that."
                )


_TRAINING = """
    initializer_range gradient_checkpointing dtype torch_dtype use_bfloat16 transformers_version _name_or_path
    name_or_path _commit_hash model_name language name directionality optimum_version torchscript
    tf_legacy_loss xla_device tie_word_embeddings tie_encoder_decoder tie_weights_ chunk_size_feed_forward
    output_attentions output_hidden_states output_past use_cache return_dict use_return_dict
    cross_attention_hidden_size attn_implementation _attn_implementation _attn_implementation_autoset
    transformers.js_config label2id _num_labels
"""
# Written into every configuration by transformers 4 and older where they differ from their defaults.
_GENERATION = """
    bos_token_id eos_token_id sep_token_id decoder_start_token_id task_specific_params prefix max_length
    min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p
    typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size
    bad_words_ids num_return_sequences forced_bos_token_id forced_eos_token_id remove_invalid_values
    exponential_decay_length_penalty suppress_tokens begin_suppress_tokens return_dict_in_generate
    output_scores
"""
# Read for a model with a head; see heads.py and text_pairs.py.
HEAD = """
    problem_type id2label num_labels finetuning_task sbert_ce_default_activation_function
    sentence_transformers
"""
_NO_ENCODER: dict[str, tuple[Any, ...]] = {
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "is_encoder_decoder": (False,),
    "pruned_heads": ({},),
    "adapters": ({},),
    "auto_map": (),
    "quantization_config": (),
    "function_to_apply": (),
}


def encoder_settings(
    used: str, without_effect: str = "", only: Mapping[str, tuple[Any, ...]] | None = None
) -> KnownSettings:
    """Returns the settings of an encoder: its own, and those that every ``config.json`` may have."""
    return KnownSettings(
        used=f"model_type architectures tokenizer_class vocab_size max_position_embeddings {used} {HEAD}",
        without_effect=f"{_TRAINING} {_GENERATION} {without_effect}",
        only={**_NO_ENCODER, **(only or {})},
    )


ABSOLUTE: dict[str, tuple[Any, ...]] = {"position_embedding_type": ("absolute",)}
# The sizes of BERT and of what was made after it, in the same words.
SIZES = """
    num_hidden_layers num_attention_heads hidden_size intermediate_size layer_norm_eps hidden_act
"""
DROPOUT = "hidden_dropout_prob attention_probs_dropout_prob classifier_dropout"
BERT = encoder_settings(
    f"{SIZES} pad_token_id type_vocab_size",
    # The sizes of a pooler are those that the multilingual models of Google carry; nothing ever read them.
    f"""
        {DROPOUT} pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head
        pooler_type
    """,
    ABSOLUTE,
)
DISTILBERT = encoder_settings(
    "pad_token_id n_layers n_heads dim hidden_dim activation",
    # The table of sinusoids is stored among the weights.
    "dropout attention_dropout qa_dropout seq_classif_dropout sinusoidal_pos_embds",
)
MODERNBERT = encoder_settings(
    """
        num_hidden_layers num_attention_heads hidden_size intermediate_size hidden_activation norm_eps
        norm_bias attention_bias mlp_bias pad_token_id local_attention global_attn_every_n_layers layer_types
        global_rope_theta local_rope_theta rope_parameters classifier_pooling classifier_bias
        classifier_activation
    """,
    # Its published configurations have layer_norm_eps, which nothing reads: the norms have norm_eps.
    """
        cls_token_id initializer_cutoff_factor attention_dropout embedding_dropout mlp_dropout
        classifier_dropout decoder_bias deterministic_flash_attn sparse_prediction sparse_pred_ignore_index
        reference_compile repad_logits_with_grad layer_norm_eps
    """,
    ABSOLUTE,
)
_DEBERTA = f"""
    {SIZES} pad_token_id type_vocab_size relative_attention max_relative_positions position_biased_input
    pos_att_type embedding_size pooler_hidden_act pooler_hidden_size
"""
# legacy chooses between two heads of a language model.
_DEBERTA_WITHOUT_EFFECT = f"{DROPOUT} pooler_dropout cls_dropout cls_token_id legacy padding_idx"
DEBERTA = encoder_settings(_DEBERTA, _DEBERTA_WITHOUT_EFFECT, {"talking_head": (False,)})
DEBERTA_V2 = encoder_settings(
    f"""
        {_DEBERTA} position_buckets share_att_key norm_rel_ebd conv_kernel_size conv_act conv_groups
        attention_head_size
    """,
    _DEBERTA_WITHOUT_EFFECT,
)

_SPECIAL_TOKENS = """
    unk_token cls_token sep_token pad_token mask_token bos_token eos_token additional_special_tokens
    extra_special_tokens
"""
TOKENIZER = KnownSettings(
    used=f"""
        {_SPECIAL_TOKENS} tokenizer_class do_lower_case strip_accents tokenize_chinese_chars model_max_length
        max_len added_tokens_decoder truncation_side add_prefix_space add_bos_token add_eos_token keep_accents
    """,
    without_effect="""
        backend chat_template clean_up_tokenization_spaces errors from_slow is_local legacy local_files_only
        max_length merges_file model_input_names name_or_path pad_to_multiple_of pad_token_type_id padding
        padding_side processor_class remove_space return_token_type_ids spaces_between_special_tokens
        special_tokens_map_file stride tokenizer_file transformers_version trim_offsets truncation
        truncation_strategy use_fast verbose vocab_file
    """,
    # The first four are of BERT's slow tokenizer, which transformers 5 does not have.
    only={
        "do_basic_tokenize": (True,),
        "never_split": ([],),
        "wordpieces_prefix": ("##",),
        "clean_text": (True,),
        "split_special_tokens": (False,),
        "sp_model_kwargs": ({},),
        "init_inputs": ([],),
        "split_by_punct": (False,),
        "vocab_type": ("spm", "gpt2"),
        "auto_map": (),
    },
)
SPECIAL_TOKENS_MAP = KnownSettings(used=_SPECIAL_TOKENS)

SENTENCE_LIMITS = KnownSettings(
    used="max_seq_length do_lower_case transformer_task",
    without_effect="unpad_inputs",
    only={
        "modality_config": ({"text": {"method": "forward", "method_output_name": "last_hidden_state"}},),
        "module_output_name": ("token_embeddings",),
    },
)
SENTENCE_POOLING = KnownSettings(
    used="""
        pooling_mode include_prompt pooling_mode_cls_token pooling_mode_mean_tokens pooling_mode_max_tokens
        pooling_mode_mean_sqrt_len_tokens pooling_mode_weightedmean_tokens pooling_mode_lasttoken
    """,
    without_effect="word_embedding_dimension embedding_dimension",
)
SENTENCE_MODULE = KnownSettings(used="type path", without_effect="idx name", only={"kwargs": ([],)})
SENTENCE_DENSE = KnownSettings(
    used="in_features out_features bias activation_function",
    only={
        "module_input_name": ("sentence_embedding",),
        "module_output_name": ("sentence_embedding",),
    },
)
SENTENCE_LAYER_NORM = KnownSettings(used="dimension")
SENTENCE_DROPOUT = KnownSettings(used="", without_effect="dropout")
SENTENCE_PROMPTS = KnownSettings(
    used="prompts default_prompt_name similarity_fn_name truncate_dim",
    without_effect="__version__",
    only={"model_type": ("SentenceTransformer",)},
)

CROSS_ENCODER = KnownSettings(
    used="model_type prompts default_prompt_name activation_fn",
    without_effect="__version__",
)
CROSS_ENCODER_LIMITS = KnownSettings(
    used="max_seq_length",
    without_effect="unpad_inputs",
    only={
        "processing_kwargs": ({},),
        "transformer_task": ("sequence-classification",),
        "modality_config": ({"text": {"method": "forward", "method_output_name": "logits"}},),
        "module_output_name": ("scores",),
        "do_lower_case": (False,),
    },
)

ELMO = KnownSettings(
    used="char_cnn lstm bidirectional",
    without_effect="""
        dropout all_clip_norm_val batch_size n_epochs n_tokens_vocab n_train_tokens unroll_steps learning_rate
        n_negative_samples_batch sample_softmax share_embedding_softmax
    """,
)
ELMO_CHARACTERS = KnownSettings(
    used="activation embedding filters n_highway n_characters max_characters_per_token"
)
ELMO_LSTM = KnownSettings(used="dim projection_dim n_layers use_skip_connections cell_clip proj_clip")
