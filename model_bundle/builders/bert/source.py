"""Reads and checks a saved model of BERT's kind before anything is built."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from model_bundle.builders.bert.build import BertSource
from model_bundle.builders.bert.cross_encoder import (
    is_cross_encoder,
    read_cross_encoder,
    stated_activation,
)
from model_bundle.builders.bert.families.family import Family
from model_bundle.builders.bert.families.registry import encoder_config, find_family
from model_bundle.builders.bert.heads import BertHead, HeadOptions, read_head
from model_bundle.builders.bert.huggingface_hub import fetch_source
from model_bundle.builders.bert.match_weights import PairedNames, pair_names, read_weights
from model_bundle.builders.bert.sentence_chain import combine_chain
from model_bundle.builders.bert.sentence_transformers import (
    NO_SENTENCE_MODEL,
    read_sentence_model,
)
from model_bundle.builders.bert.sentencepiece import has_only_model_file, read_model_file
from model_bundle.builders.bert.text_pairs import check_single_text
from model_bundle.builders.bert.token_limit import choose_limit
from model_bundle.builders.bert.weight_names import enclosing_scope
from model_bundle.builders.graphs.bert_config import BertConfig
from model_bundle.builders.licence import UNKNOWN, read_licence
from model_bundle.builders.source_folder import SourceFolder, check_inside
from model_bundle.builders.tokenizer import SubwordTokenizer, read_tokenizer, with_lowercase
from model_bundle.builders.weights.read import find_weights
from model_bundle.bundle.specs import Pooling, SourceSpec
from model_bundle.errors import SourceError

# Google's configurations, by the family that each is of.
_GOOGLE = {"bert_config.json": "bert", "albert_config.json": "albert"}
_TANH = (
    "activation: gelu in the tanh form of Google's code (for the exact form that transformers computes, "
    'set "hidden_act": "gelu_python" in {})'
)


@dataclass(frozen=True)
class BertOptions:
    """The caller's settings; None means as in the source.

    ``revision``: of the Hub. ``max_tokens``: at most the model's own limit. ``lowercase``: for a bare
    ``vocab.txt``. ``origin``: the location to record for the model. ``licence``: its identifier. ``head``:
    None builds the encoder alone, else with its classification head. ``truncate_dim``: keep only the first
    numbers of a vector.
    """

    revision: str | None = None
    name: str | None = None
    max_tokens: int | None = None
    pooling: Pooling | None = None
    normalize: bool | None = None
    lowercase: bool | None = None
    origin: str | None = None
    licence: str | None = None
    head: HeadOptions | None = None
    truncate_dim: int | None = None


@dataclass(frozen=True)
class ReadBert:
    """A source that is ready to build, and notes for the user."""

    source: BertSource
    notes: tuple[str, ...]


def read_bert_source(place: str, options: BertOptions) -> ReadBert:
    """Reads a Hugging Face or sentence-transformers folder, a Hub model, or a Google checkpoint.

    Args:
        place: a folder, or an identifier on the Hub.
        options: settings that override the source.

    Raises:
        SourceError: the model cannot be built; states what was expected and what to do.
        WeightsMismatchError: its weights do not match its configuration.
    """
    fetched = fetch_source(place, options.revision)
    top = SourceFolder(fetched.path)
    # The modules of a CrossEncoder are no sentence model; one built for single texts is refused below.
    scores_pairs = options.head is not None and (options.head.pairs or is_cross_encoder(top))
    of_pairs = read_cross_encoder(top) if options.head is not None and options.head.pairs else None
    sentence = None if scores_pairs else read_sentence_model(top)
    if sentence is not None and options.head is not None:
        raise SourceError(f"{top.root} is a sentence-transformers model, which returns vectors: omit --task.")
    if options.truncate_dim is not None and options.head is not None:
        raise SourceError("--truncate_dim is for vectors: omit it with --task classify.")
    folder = top if sentence is None else SourceFolder(_inside(top, sentence.encoder_path))
    location = options.origin or fetched.location
    encoder = _read_encoder(folder, options, location, lowercase=bool(sentence and sentence.lowercase))
    licence = read_licence(top, location, options.licence)
    stated = sentence or replace(NO_SENTENCE_MODEL, max_tokens=of_pairs)
    positions = encoder.config.max_text_positions
    limit = choose_limit(
        options.max_tokens, stated.max_tokens, encoder.tokenizer.max_tokens, positions, str(folder.root)
    )
    chain = combine_chain(
        stated,
        encoder.config.dim,
        pooling=_pooling(options, encoder),
        normalize=options.normalize,
        truncate_dim=options.truncate_dim,
    )
    source = BertSource(
        name=options.name or location.rsplit("/", 1)[-1],
        config=encoder.config,
        weights=encoder.weights,
        tokenizer_json=encoder.tokenizer.json_text,
        lowercase=encoder.tokenizer.lowercase,
        max_tokens=limit.tokens,
        pooling=chain.pooling,
        normalize=chain.normalize,
        source=SourceSpec(
            kind="sentence-transformers" if sentence else encoder.kind,
            location=location,
            revision=fetched.revision,
            files=_digests(top, folder),
        ),
        licence=licence.identifier,
        licence_text=licence.text,
        prompts=stated.prompts,
        default_prompt=stated.default_prompt,
        head=encoder.head,
        family=encoder.family,
        sentence=chain.sentence,
        sentence_weights={} if chain.sentence is None else stated.weights,
        sentence_dim=chain.dim,
        similarity=stated.similarity,
    )
    notes = [f"read: {encoder.note} from {fetched.path}", *encoder.remarks, *limit.notes]
    if prompt := stated.prompts.get(stated.default_prompt or ""):
        notes.append(f"prompt of documents: {stated.default_prompt} ({prompt!r})")
    if licence.identifier == UNKNOWN:
        notes.append("warning: no licence found in the source; state it with --licence if known")
    return ReadBert(source, tuple(notes))


@dataclass(frozen=True)
class _Encoder:
    """An encoder as read from one folder. ``kind`` is the format: ``huggingface`` or ``google``."""

    kind: str
    family: Family
    config: BertConfig
    weights: dict[str, np.ndarray]
    tokenizer: SubwordTokenizer
    note: str
    remarks: tuple[str, ...]
    head: BertHead | None


def _read_encoder(folder: SourceFolder, options: BertOptions, name: str, *, lowercase: bool) -> _Encoder:
    kind, raw, where = _config(folder)
    family = find_family(raw, where)
    stored = find_weights(folder)
    scope = enclosing_scope(stored.shapes)
    stored = stored.inside(scope)
    names = pair_names(stored, family.names, with_head=options.head is not None)
    head = overruled = None
    if options.head is not None:
        activation = None
        if options.head.pairs:
            activation = None if options.head.scores else stated_activation(raw, folder, where)
        else:
            overruled = check_single_text(raw, folder, name, where, single_text=options.head.single_text)
        is_google = kind == "google"
        head = read_head(raw, stored, options.head, google=is_google, where=where, activation=activation)
    config = encoder_config(raw, has_pooler=names.has_pooler, where=where)
    if head is not None:
        config = _with_head(config, head, names, family)
    weights = read_weights(config, stored, names, str(folder.root))
    read = read_model_file if has_only_model_file(folder) else read_tokenizer
    tokenizer = read(folder, options.lowercase)
    if head is not None and head.pair_truncation is not None:
        config = replace(config, takes_types=tokenizer.gives_types and config.num_types > 1)
    if lowercase:
        tokenizer = with_lowercase(tokenizer)
    if tokenizer.vocab_size > config.vocab_size:
        raise SourceError(
            f"{folder.root}: the tokenizer has ids up to {tokenizer.vocab_size - 1}, the model has "
            f"{config.vocab_size} word embeddings. Tokenizer and weights belong to different models."
        )
    left_out = [f"left out: {what}: {', '.join(found)}" for what, found in sorted(names.left_out.items())]
    if kind == "google" and config.activation == "gelu_tanh":
        left_out.append(_TANH.format(Path(where).name))
    remarks = (*left_out, *filter(None, [tokenizer.note, head.note if head else None, overruled]))
    note = f"{len(weights)} weights ({stored.format}{f', below {scope}' if scope else ''})"
    return _Encoder(kind, family, config, weights, tokenizer, note, remarks, head)


def _with_head(config: BertConfig, head: BertHead, names: PairedNames, family: Family) -> BertConfig:
    """Adds the head's layers; one that classifies texts needs a pooler, even if it is not stored."""
    return replace(
        config,
        has_pooler=names.has_pooler or not head.per_token,
        pooler_activation=family.head_activation or config.pooler_activation,
        num_labels=len(head.labels),
        labels_per_token=head.per_token,
    )


def _inside(top: SourceFolder, path: str) -> Path:
    inner = top.root / path
    if not inner.is_dir():
        raise SourceError(f"{top.root / 'modules.json'} names the folder {path}, which does not exist.")
    check_inside(top.root, inner)
    return inner


def _config(folder: SourceFolder) -> tuple[str, dict[str, Any], str]:
    """Reads the configuration of Hugging Face, else of Google, whose file says what it is of."""
    if (config := folder.json_object("config.json")) is not None:
        return "huggingface", config, str(folder.root / "config.json")
    for name, kind in _GOOGLE.items():
        if (config := folder.json_object(name)) is not None:
            return "google", _by_tanh(config, kind), str(folder.root / name)
    raise SourceError(
        f"{folder.root} has no config.json (Hugging Face) and no bert_config.json (Google) or "
        "albert_config.json: it is not a folder of a BERT model. Name the folder with the configuration, the "
        "weights and the tokenizer."
    )


def _by_tanh(config: dict[str, Any], kind: str) -> dict[str, Any]:
    """Returns Google's configuration in Hugging Face's words, where ``gelu`` is the exact form.

    Source: ``gelu`` in modeling.py of google-research/bert and google-research/albert; see
    docs/decisions/google-gelu.md.
    """
    act = config.get("hidden_act", "gelu")
    return {"model_type": kind, **config, "hidden_act": "gelu_new" if act == "gelu" else act}


def _pooling(options: BertOptions, encoder: _Encoder) -> Pooling | None:
    """Returns the pooling that goes before the source's; None if there is none."""
    if options.pooling is Pooling.POOLER and not encoder.config.has_pooler:
        raise SourceError("--pooling pooler: this model has no pooler; use mean, max, first or last.")
    if encoder.head is not None and not encoder.head.per_token:
        return options.pooling or Pooling.POOLER
    return options.pooling


def _digests(top: SourceFolder, folder: SourceFolder) -> dict[str, str]:
    """Returns the digests of the files that were read, by path from the top folder."""
    prefix = folder.root.relative_to(top.root).as_posix()
    inner = {name if prefix == "." else f"{prefix}/{name}": d for name, d in folder.digests().items()}
    return dict(sorted({**top.digests(), **inner}.items()))
