"""``FilteredUnion``: a dataset of several datasets, each with a condition of its own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NoReturn, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

Part = tuple[ds.Dataset, pc.Expression | None]


class FilteredUnion(ds.UnionDataset):  # type: ignore[misc]  # pyarrow is not typed
    """A union that filters its parts, which Arrow's own one cannot do.

    Whatever reads a dataset does so through ``scanner``: its own methods, DuckDB and Polars.

    Args:
        schema: schema of all parts.
        parts: unfiltered datasets, each with the condition that its rows must satisfy; None for all rows.
    """

    def __init__(self, schema: pa.Schema, parts: Sequence[Part]) -> None:
        super().__init__(schema, [part for part, _ in parts])
        self._parts = tuple(parts)

    def scanner(self, *args: Any, **kwargs: Any) -> ds.Scanner:
        """Returns a scanner that reads the parts one after another; for its arguments see Arrow."""
        filtered = [part if where is None else part.filter(where) for part, where in self._parts]
        scanners = [part.scanner(*args, **kwargs) for part in filtered]
        batches = itertools.chain.from_iterable(scanner.to_batches() for scanner in scanners)
        reader = pa.RecordBatchReader.from_batches(scanners[0].projected_schema, batches)
        return ds.Scanner.from_batches(reader)

    def filter(self, expression: pc.Expression) -> Self:
        """Returns the rows that also satisfy a condition."""
        both = [(part, expression if where is None else where & expression) for part, where in self._parts]
        return type(self)(self.schema, both)

    def replace_schema(self, schema: pa.Schema) -> Self:
        """Returns the same rows with another schema, which must have the columns of the conditions."""
        return type(self)(schema, [(part.replace_schema(schema), where) for part, where in self._parts])

    def get_fragments(self, filter: pc.Expression | None = None) -> NoReturn:  # noqa: A002, ARG002  # as in Arrow
        """Raises ValueError, as of any filtered dataset: fragments would show the rows that it hides."""
        raise ValueError("Fragments of a filtered dataset would show the rows that it hides. Use scanner.")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the conditions, too."""
        return type(self), (self.schema, self._parts)
