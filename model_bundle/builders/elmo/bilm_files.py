"""Reads the files of a bidirectional language model: ``options.json`` and ``weights.hdf5``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model_bundle.base.untrusted.hdf5 import open_hdf5
from model_bundle.base.untrusted.json_text import JsonError, parse_json
from model_bundle.builders.graphs.elmo_options import BilmOptions
from model_bundle.builders.known_settings import ELMO, ELMO_CHARACTERS, ELMO_LSTM
from model_bundle.errors import SourceError

_Count = Annotated[int, Field(gt=0)]
_Clip = Annotated[float, Field(gt=0)] | None


class _Part(BaseModel):
    """A part of the file; its keys are checked by ``known_settings``."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _Embedding(_Part):
    dim: _Count


class _CharCnn(_Part):
    activation: Literal["relu", "tanh"]
    embedding: _Embedding
    filters: Annotated[tuple[tuple[_Count, _Count], ...], Field(min_length=1)]
    n_highway: Annotated[int, Field(ge=0)] | None = None
    # 261 in training, where the table has no row for masked words.
    n_characters: Literal[261, 262] = 262
    max_characters_per_token: Annotated[int, Field(ge=3)]

    @model_validator(mode="after")
    def _filters_fit(self) -> Self:
        widest = max(width for width, _ in self.filters)
        if widest > self.max_characters_per_token:
            raise ValueError(
                f"a filter of width {widest} does not fit max_characters_per_token "
                f"{self.max_characters_per_token}"
            )
        return self


class _Lstm(_Part):
    dim: _Count
    projection_dim: _Count
    n_layers: _Count
    use_skip_connections: bool = False
    cell_clip: _Clip = None
    proj_clip: _Clip = None


class _Options(_Part):
    char_cnn: _CharCnn
    lstm: _Lstm
    bidirectional: Literal[True] = True


def read_options(path: Path) -> BilmOptions:
    """Reads ``options.json``.

    Raises:
        SourceError: the file is missing or not JSON, or a value is missing or unknown.
    """
    try:
        raw = parse_json(path.read_bytes())
    except OSError as error:
        raise SourceError(
            f"{path} cannot be read ({error.strerror}). Name the options.json of a biLM."
        ) from error
    except JsonError as error:
        raise SourceError(f"{path} is not JSON ({error}). Name the options.json of a biLM.") from error
    try:
        options = _Options.model_validate(raw)
    except ValidationError as error:
        faults = "\n".join(f"  {_describe(fault)}" for fault in error.errors())
        raise SourceError(
            f"{path} does not describe a biLM that can be built:\n{faults}\n"
            "Expected the options that bilm and AllenNLP write: char_cnn and lstm."
        ) from error
    for known, content, part in (
        (ELMO, raw, ""),
        (ELMO_CHARACTERS, raw["char_cnn"], ", char_cnn"),
        (ELMO_LSTM, raw["lstm"], ", lstm"),
    ):
        known.check(content, f"{path}{part}")
    return _to_options(options)


def _describe(fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"]) or "the file"
    found = "" if fault["type"] == "missing" else f" (found {fault['input']!r})"
    return f"{place}: {fault['msg']}{found}"


def _to_options(options: _Options) -> BilmOptions:
    cnn, lstm = options.char_cnn, options.lstm
    return BilmOptions(
        character_dim=cnn.embedding.dim,
        filters=cnn.filters,
        activation=cnn.activation,
        num_highways=cnn.n_highway or 0,
        max_characters=cnn.max_characters_per_token,
        lstm_dim=lstm.dim,
        projection_dim=lstm.projection_dim,
        num_layers=lstm.n_layers,
        use_skip_connections=lstm.use_skip_connections,
        cell_clip=lstm.cell_clip,
        projection_clip=lstm.proj_clip,
    )


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Reads every dataset of ``weights.hdf5`` as float32, by its path in the file.

    Raises:
        SourceError: the file is missing, truncated, not HDF5, or contains something other than floats.
    """
    import h5py

    if not path.is_file():
        raise SourceError(f"{path} does not exist. Name the weights.hdf5 of a biLM.")
    if not h5py.is_hdf5(path):
        raise SourceError(f"{path} is not an HDF5 file, or its beginning is missing. Download it again.")
    weights: dict[str, np.ndarray] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            if item.dtype.kind != "f":
                raise SourceError(f"{path}: {name} contains {item.dtype}, expected floating-point weights.")
            weights[name] = np.asarray(item[()], dtype=np.float32)

    with open_hdf5(path) as file:
        file.visititems(keep)
    return weights
