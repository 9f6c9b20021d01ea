"""Indexes the documents of earlier runs by id and by id with text, to find changes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from beam_jobs.base.records import Document, EarlierRows
from beam_jobs.pipeline.incremental.digest_index import DIGEST_BYTES, DigestIndex, IndexWriter
from beam_jobs.pipeline.incremental.previous_rows import GroupDocuments, group_documents, open_parquet
from beam_jobs.pipeline.rows.copied import PLACE_WIDTH

_PAIRS, _IDS, _SKIPPED_PAIRS, _SKIPPED_IDS = "pairs", "ids", "skipped_pairs.u1", "skipped_ids.u1"
# The location of a document: file, row group, first row in it.
_PLACE_WIDTH = 3


@dataclass(frozen=True)
class PreviousFiles:
    """The files of an earlier run: its rows, and its changes since the run before."""

    row_files: tuple[str, ...]
    change_files: tuple[str, ...]


class PreviousDocuments:
    """Finds documents of earlier runs.

    Args:
        folder: folder written by ``index_documents``.

    Attributes:
        pairs: index by ``pair_digests``, with locations.
        ids: index by ``id_digests``; with the locations of rows, if it was made so.
        skipped_pairs, skipped_ids: uint8[entries], shared by all processes that opened the folder: 1 if a
            document of the new input is unchanged and not written again.
    """

    def __init__(self, folder: str) -> None:
        root = Path(folder)
        self.pairs = DigestIndex(str(root / _PAIRS))
        self.ids = DigestIndex(str(root / _IDS))
        self.skipped_pairs = np.memmap(root / _SKIPPED_PAIRS, np.uint8, mode="r+")
        self.skipped_ids = np.memmap(root / _SKIPPED_IDS, np.uint8, mode="r+")

    def earlier(self, documents: Sequence[Document]) -> list[Document]:
        """Returns documents with the locations of the earlier rows of their ids; see ``with_places``."""
        found = self.ids.find(id_digests([document.doc_id for document in documents]))
        return [
            document if at < 0 else replace(document, earlier=self._rows_at(self.ids.places[at].tolist()))
            for document, at in zip(documents, found.tolist(), strict=True)
        ]

    def _rows_at(self, place: list[int]) -> EarlierRows:
        return EarlierRows(self.ids.files[place[0]], *place[1:])

    def skip(self, ids: Sequence[str], text_digests: np.ndarray) -> np.ndarray:
        """Marks unchanged documents as skipped.

        Args:
            ids: ids of the documents.
            text_digests: uint8[documents, 32].

        Returns:
            bool[documents], whether a document is unchanged.
        """
        found = self.pairs.find(pair_digests(ids, text_digests))
        same = found >= 0
        self.skipped_pairs[found[same]] = 1
        self.skipped_ids[self.ids.find(id_digests([ids[int(at)] for at in np.flatnonzero(same)]))] = 1
        return np.asarray(same)


def index_documents(
    runs: Sequence[PreviousFiles], folder: str, *, same_settings: bool, with_places: bool = False
) -> int:
    """Indexes the documents that are valid after a chain of runs.

    Args:
        runs: the newest first; all but the last one hold only changes.
        folder: output folder, which is created.
        same_settings: False if every text must be computed again, so that no document is unchanged.
        with_places: whether rows are found by id, too.

    Returns:
        The number of documents whose id repeats that of another one.

    Raises:
        JobError: a file cannot be read.
    """
    root, number = Path(folder), 0
    paths = [path for run in runs for path in run.row_files]
    with (
        IndexWriter(str(root / _PAIRS), _PLACE_WIDTH) as pairs,
        IndexWriter(str(root / _IDS), PLACE_WIDTH if with_places else 0) as ids,
    ):
        for file, group, documents in _valid(runs):
            texts = documents.text_digests if same_settings else np.zeros_like(documents.text_digests)
            places = np.empty((len(documents.starts), PLACE_WIDTH), np.int32)
            places[:, 0], places[:, 1] = file, group
            places[:, 2], places[:, 3] = documents.starts, documents.counts
            pairs.add(pair_digests(documents.ids, texts), places[:, :_PLACE_WIDTH])
            ids.add(id_digests(documents.ids), places if with_places else places[:, :0])
            number += len(places)
        num_pairs, num_ids = len(pairs.finish(paths)), len(ids.finish(paths))
    for name, size in ((_SKIPPED_PAIRS, num_pairs), (_SKIPPED_IDS, num_ids)):
        (root / name).write_bytes(bytes(max(size, 1)))  # an empty file cannot be mapped
    return number - num_ids


def _valid(runs: Sequence[PreviousFiles]) -> Iterator[tuple[int, int, GroupDocuments]]:
    """Yields file, row group and documents, without those that a later run changed or removed."""
    hidden: set[str] = set()
    file = 0
    for run in runs:
        for path in run.row_files:
            for group, documents in documents_of(path):
                shown = [at for at, name in enumerate(documents.ids) if name not in hidden]
                yield file, group, documents.only(shown) if hidden else documents
            file += 1
        hidden |= set(changed_ids(run.change_files))


def documents_of(path: str) -> Iterator[tuple[int, GroupDocuments]]:
    """Yields the row groups of a file with their documents.

    Raises:
        JobError: the file cannot be read.
    """
    with open_parquet(path) as parquet:
        for group in range(parquet.metadata.num_row_groups):
            yield group, group_documents(parquet, group)


def changed_ids(paths: Iterable[str]) -> Iterator[str]:
    """Yields the ids that files of changes list as changed or removed."""
    for path in paths:
        with open_parquet(path) as parquet:
            for batch in parquet.iter_batches(columns=["doc_id", "change"]):
                names, kinds = (batch.column(name).to_pylist() for name in ("doc_id", "change"))
                yield from (n for n, change in zip(names, kinds, strict=True) if change != "added")


def id_digests(ids: Sequence[str]) -> np.ndarray:
    """Returns the sha256 of each id, uint8[ids, 32]."""
    return _stacked(hashlib.sha256(_utf8(name)).digest() for name in ids)


def pair_digests(ids: Sequence[str], text_digests: np.ndarray) -> np.ndarray:
    """Returns the sha256 of each id with its text digest (uint8[ids, 32]), uint8[ids, 32]."""
    texts = text_digests.tobytes()
    return _stacked(
        hashlib.sha256(texts[at * DIGEST_BYTES : (at + 1) * DIGEST_BYTES] + _utf8(name)).digest()
        for at, name in enumerate(ids)
    )


def _stacked(digests: Iterator[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)


def _utf8(name: str) -> bytes:
    return name.encode("utf-8", errors="surrogatepass")


def names_at(path: str, group: int, rows: np.ndarray) -> list[str]:
    """Reads the ids of some rows of a row group."""
    with open_parquet(path) as parquet:
        column = parquet.read_row_group(group, columns=["doc_id"]).column("doc_id")
    names: list[str] = column.take(pa.array(rows)).to_pylist()
    return names
