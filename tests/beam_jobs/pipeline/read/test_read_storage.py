"""Storage that fails in the middle of a file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from apache_beam.io.filesystem import CompressionTypes, FileMetadata, FileSystem

from beam_jobs.base.config import ReadOptions
from beam_jobs.base.records import DeadFile
from beam_jobs.pipeline.read.files.patterns import match_pattern
from beam_jobs.pipeline.read.splits import read_split
from beam_jobs.pipeline.read.types import FileSplit, ReadPlan


class ShakyFileSystem(FileSystem):
    """Storage under shaky://, whose every file breaks off with the error it is named after."""

    ERRORS: ClassVar[dict[str, Exception]] = {
        "timeout": ConnectionError("connection reset"),
        "forbidden": type("Forbidden", (Exception,), {"code": 403})("no access"),
        "missing": FileNotFoundError("gone"),
    }
    CONTENT = b"one\n" * 100_000

    @classmethod
    def scheme(cls) -> str:
        return "shaky"

    def open(
        self, path: str, _mime_type: str = "", compression_type: str = CompressionTypes.AUTO
    ) -> io.BufferedIOBase:
        assert compression_type == CompressionTypes.UNCOMPRESSED
        error = next(error for name, error in self.ERRORS.items() if name in path)

        class Broken(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                data = super().read(size)
                if self.tell() > 300_000:
                    raise error
                return data

        return Broken(self.CONTENT)

    def _list(self, _dir_or_prefix: str) -> Iterator[FileMetadata]:
        for name in self.ERRORS:
            yield FileMetadata(f"shaky://{name}.txt", len(self.CONTENT))
            yield FileMetadata(f"shaky://{name}.parquet", len(self.CONTENT))

    def has_dirs(self) -> bool:
        return False

    def _unused(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    join = split = mkdirs = create = copy = rename = exists = size = last_updated = checksum = metadata = (
        delete
    ) = _unused


@pytest.mark.parametrize("suffix", ["txt", "parquet"])
def test_storage_that_fails_for_good_is_a_dead_file_and_for_a_while_an_error(suffix: str) -> None:
    options = ReadOptions((f"shaky://*.{suffix}",), text_columns=())
    plan = ReadPlan(options, ("text",) if suffix == "parquet" else (), pa.schema([]))
    files = match_pattern(*options.patterns)
    assert [file.relative for file in files] == [
        f"{name}.{suffix}" for name in sorted(ShakyFileSystem.ERRORS)
    ]
    forbidden, missing, timeout = (FileSplit(file) for file in files)
    with pytest.raises(ConnectionError):  # for the runner, which tries again
        list(read_split(timeout, plan))
    for split in (forbidden, missing):
        *documents, dead = read_split(split, plan)
        assert isinstance(dead, DeadFile)
        assert dead.reason == "cannot_read"
        assert dead.num_documents == len(documents) == (65536 if suffix == "txt" else 0)
