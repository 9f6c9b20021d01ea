"""Converts columns of a table to a model's numeric inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model_bundle.bundle.specs import InputSpec
from model_bundle.errors import SettingsError
from model_bundle.runtime.inputs import numeric_key

OUT_OF_RANGE = "A number of this text does not fit the model's input: too large, not finite, or no whole one."


class NumericInputs:
    """The numeric inputs of a model, which are fed columns of a table.

    Args:
        specs: all inputs of the signature.
    """

    def __init__(self, specs: Mapping[str, InputSpec]) -> None:
        self._specs = {name: spec for name, spec in specs.items() if spec.role == "numeric"}
        self.columns = tuple(dict.fromkeys(c for spec in self._specs.values() for c in spec.columns))

    def table(self, values: Mapping[str, Sequence[float] | np.ndarray] | None, num_texts: int) -> np.ndarray:
        """Stacks columns into one table.

        Args:
            values: numbers by column name, one per text; or an array [texts, columns] by the name of an
                input, with that input's columns in order.
            num_texts: the expected number of rows.

        Returns:
            float64[texts, columns], in the order of ``columns``.

        Raises:
            SettingsError: a column is missing, unknown, of another length, or not numeric.
        """
        given = self._by_column(values or {})
        if given.keys() != set(self.columns):
            raise SettingsError(
                f"The model takes numbers from the columns {_names(self.columns)}, but was given "
                f"{_names(given)}. Pass each of them: numeric={{'name': [one number per text]}}."
            )
        table = np.empty((num_texts, len(self.columns)))
        for index, name in enumerate(self.columns):
            table[:, index] = _column(name, given[name], num_texts)
        return table

    def _by_column(self, values: Mapping[str, Sequence[float] | np.ndarray]) -> dict[str, Any]:
        """Splits arrays of whole inputs into columns."""
        given: dict[str, Any] = {}
        for name, value in values.items():
            columns = self._specs[name].columns if name in self._specs else ()
            if isinstance(value, np.ndarray) and value.shape[1:] == (len(columns),) != (0,):
                given |= zip(columns, value.T, strict=True)
            else:
                given[name] = value
        return given

    def arrays(self, table: np.ndarray | None, num_texts: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Returns the arrays to feed the inputs.

        Args:
            table: float64[texts, columns], see ``table``; None if the model has no such inputs.
            num_texts: the expected number of rows.

        Returns:
            Arrays [texts, columns of the input] in its type, by ``numeric_key``; and bool[texts], which texts
            have a number that the type cannot represent; these cells are 0.

        Raises:
            SettingsError: the table has another shape.
        """
        found = (num_texts, 0) if table is None else table.shape
        if found != (num_texts, len(self.columns)):
            raise SettingsError(
                f"The model takes {len(self.columns)} numbers with each text, from the columns "
                f"{_names(self.columns)}; {num_texts} texts came with numbers of shape {list(found)}."
            )
        is_unfit = np.zeros(num_texts, dtype=bool)
        arrays: dict[str, np.ndarray] = {}
        if table is not None:
            for name, spec in self._specs.items():
                part = table[:, [self.columns.index(column) for column in spec.columns]]
                fits = _fits(part, spec.dtype)
                is_unfit |= ~fits.all(axis=1)
                arrays[numeric_key(name)] = np.where(fits, part, 0).astype(spec.dtype)
        return arrays, is_unfit


def _column(name: str, values: Sequence[float] | np.ndarray, num_texts: int) -> np.ndarray:
    try:
        column = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"Column {name!r} contains a value that is not a number: {error}.") from error
    if column.shape != (num_texts,):
        raise SettingsError(
            f"Column {name!r} has shape {list(column.shape)}; expected one number for each of "
            f"{num_texts} texts."
        )
    return column


def _fits(values: np.ndarray, dtype: str) -> np.ndarray:
    """Returns bool of the shape of ``values``: which of them the type can represent."""
    if dtype == "float32":
        return np.asarray(np.abs(values) <= np.finfo(np.float32).max)
    limits = np.iinfo(dtype)
    # The largest int64 is not a float64; the next float64 below it is used.
    in_range = (values >= limits.min) & (values <= np.nextafter(float(limits.max), 0.0))
    return np.asarray(in_range & (np.floor(values) == values))


def _names(names: Sequence[str] | Mapping[str, object]) -> str:
    return ", ".join(map(repr, names)) or "none"
