"""For a model that cannot be built: the nearest family that can, and what it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model_bundle.builders.bert.families.family import Family

# By model type: the nearest model type, and what it lacks. Source: the modeling files of transformers.
LACKING = {
    "big_bird": ("roberta", "attention to random and neighbouring blocks"),
    "canine": ("bert", "characters instead of tokens, hashed and down-sampled"),
    "convbert": ("electra", "convolutions beside attention"),
    "data2vec-text": ("roberta", "data2vec's names of weights"),
    "ernie": ("bert", "embeddings of tasks"),
    "ernie_m": ("roberta", "layers under other names"),
    "esm": ("roberta", "rotary positions and norms before each half of a layer"),
    "eurobert": ("modernbert", "norms without a mean, and names of its own"),
    "flaubert": ("bert", "XLM's layers and languages"),
    "fnet": ("bert", "Fourier transforms instead of attention"),
    "funnel": ("bert", "pooling of tokens between layers"),
    "gemma3_text": ("bert", "a decoder's causal attention"),
    "gpt2": ("bert", "a decoder's causal attention"),
    "ibert": ("roberta", "arithmetic in whole numbers"),
    "layoutlm": ("bert", "positions of words on a page"),
    "llama": ("bert", "a decoder's causal attention"),
    "longformer": ("roberta", "attention to a window and to global tokens"),
    "luke": ("roberta", "entities beside words"),
    "megatron-bert": ("bert", "norms before each half of a layer and one after the last"),
    "mistral": ("bert", "a decoder's causal attention"),
    "mobilebert": ("bert", "bottlenecks around each layer"),
    "mt5": ("mpnet", "an encoder beside a decoder, norms without a mean"),
    "new": ("modernbert", "norms after each half of a layer, in code of its own"),
    "nezha": ("bert", "relative positions in keys and values"),
    "nomic_bert": ("modernbert", "norms after each half of a layer, and types of tokens"),
    "qwen2": ("bert", "a decoder's causal attention"),
    "qwen3": ("bert", "a decoder's causal attention"),
    "rembert": ("albert", "embeddings that are not those of the output, over layers that are not shared"),
    "roberta-prelayernorm": ("roberta", "norms before each half of a layer"),
    "roformer": ("bert", "rotary positions"),
    "squeezebert": ("bert", "grouped convolutions"),
    "t5": ("mpnet", "an encoder beside a decoder, norms without a mean"),
    "xlm": ("bert", "XLM's layers and languages"),
    "xlm-roberta-xl": ("xlm-roberta", "norms before each half of a layer"),
    "xlnet": ("bert", "attention in two streams"),
    "xmod": ("xlm-roberta", "adapters by language"),
}


def nearest(config: dict[str, Any], families: Sequence[Family]) -> str:
    """Returns a sentence on the nearest family and what it lacks.

    For a model type that nobody has compared, that is the family with the most settings in common, and the
    settings that it does not have.
    """
    kind = str(config.get("model_type"))
    if kind in LACKING:
        near, lacking = LACKING[kind]
        family = next(each for each in families if near in each.model_types)
        return f"The nearest is {family.title}, which lacks {lacking}."
    stated = {key for key, value in config.items() if value is not None}
    family = max(families, key=lambda each: len(stated & each.known.names))
    unknown = sorted(stated - family.known.names)
    if not unknown:
        return f"The nearest is {family.title}, which has all its settings, but another graph."
    return f"The nearest by its settings is {family.title}, which has no {', '.join(unknown[:6])}."
