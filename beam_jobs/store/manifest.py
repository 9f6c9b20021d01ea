"""The run manifest, ``manifest.json``: its presence makes a run finished."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from beam_jobs.base.config import RUN_ID
from beam_jobs.errors import JobError
from model_bundle.base.untrusted.json_text import JsonError, parse_json

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
FAILED_NAME = "manifest.failed.json"
LATEST_NAME = "latest.json"
REPORT_NAME = "report.html"
STAGING_DIR = "_staging"
# In the staging folder, followed by an attempt's id: the runs that it reads, as JSON.
NEEDS_PREFIX = "needs-"
EMBEDDINGS = "embeddings"
CLASSES = "classes"
DEAD_LETTERS = "dead_letters"
CHANGES = "changes"
WINDOW_CHANGES = "window_changes"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunFile(_Part):
    """One file of a run, by its path relative to the run's folder."""

    path: str
    kind: Literal["embeddings", "classes", "dead_letters", "changes", "window_changes"]
    num_rows: int = Field(ge=0)
    num_bytes: int = Field(ge=0)
    sha256: str

    @field_validator("path")
    @classmethod
    def _is_inside(cls, path: str) -> str:
        """Rejects a path that leads out of the run's folder."""
        parts = path.split("/")
        if any(part in ("", ".", "..") for part in parts) or any(c in path for c in "\\:\0"):
            raise ValueError(f"the file {path!r} is not inside the run's folder")
        return path


class GoldCounts(_Part):
    """The labels of a run beside a column of true labels, in rows.

    ``column`` is the input's column, ``output_column`` its name in the rows. ``num_missing`` rows have no
    true label, ``num_unknown`` one that the bundle does not have; neither is in the other counts.
    ``rows_by_label`` counts rows by their true label, ``predicted_by_label`` by the label they got,
    ``right_by_label`` those where both agree. ``confusion``: rows by true label and label; empty for bundles
    with more than 30 labels. ``rows_by_score`` and ``right_by_score``: rows by the lower bound of their best
    score in percent.
    """

    column: str
    output_column: str
    num_missing: int = 0
    num_unknown: int = 0
    rows_by_label: dict[str, int] = Field(default_factory=dict)
    predicted_by_label: dict[str, int] = Field(default_factory=dict)
    right_by_label: dict[str, int] = Field(default_factory=dict)
    confusion: dict[str, dict[str, int]] = Field(default_factory=dict)
    rows_by_score: dict[int, int] = Field(default_factory=dict)
    right_by_score: dict[int, int] = Field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        """The rows with a true label of the bundle's."""
        return sum(self.rows_by_label.values())

    @property
    def accuracy(self) -> float:
        """The share of these rows that got their true label; 0 without any."""
        return sum(self.right_by_label.values()) / self.num_rows if self.num_rows else 0.0


class RunCounts(_Part):
    """Counts of a run, in documents: read = written + reused + unchanged + dead.

    ``num_dead`` includes ``num_blank``. Token counts include special tokens; ``num_padded_tokens`` is what
    the model computed, ``num_lost_tokens`` what truncation dropped, ``num_lost_words`` the same if rows are
    words. ``num_unknown_tokens`` of the tokens stand for text that the vocabulary lacks, and more than half
    of those of ``num_mostly_unknown`` documents do. ``num_half_blank`` computed documents are pairs of which
    one text is blank. ``num_windowed`` documents were split into
    ``num_windows``. ``model_seconds`` is the sum over workers. ``num_repeated`` of the written documents have
    the text of another one, which was computed once. ``num_unchanged`` documents have their rows in the
    previous run, if only changes are written. ``changes`` counts ids by their change since then,
    ``window_changes`` the windows of changed documents. Where rows are windows, ``num_encoded_windows`` of
    the written documents were computed and ``num_reused_windows`` copied from the previous run.
    ``documents_by_tokens`` is a histogram of lengths, keyed by the upper bound of each bin.
    ``rows_by_weights`` counts rows by how the model held its weights: ``constants``, or the reason why not.
    For classifiers, ``rows_by_label`` counts rows by their label or labels, ``num_without_label`` those that
    reach no threshold, and ``rows_by_score`` rows by the lower bound of their best score in percent, in steps
    of 5; reused rows are counted, too.
    """

    num_read: int
    num_written: int
    num_reused: int = 0
    num_unchanged: int = 0
    num_repeated: int = 0
    num_dead: int
    num_blank: int
    num_dead_files: int
    dead_by_reason: dict[str, int]
    num_truncated: int
    num_tokens: int
    num_padded_tokens: int
    num_lost_tokens: int
    num_lost_words: int = 0
    num_unknown_tokens: int = 0
    num_mostly_unknown: int = 0
    num_half_blank: int = 0
    num_windowed: int = 0
    num_windows: int = 0
    num_encoded_windows: int = 0
    num_reused_windows: int = 0
    model_seconds: float
    rows_by_weights: dict[str, int] = Field(default_factory=dict)
    documents_by_tokens: dict[int, int] = Field(default_factory=dict)
    changes: dict[str, int] = Field(default_factory=dict)
    window_changes: dict[str, int] = Field(default_factory=dict)
    rows_by_label: dict[str, int] = Field(default_factory=dict)
    num_without_label: int = 0
    rows_by_score: dict[int, int] = Field(default_factory=dict)
    gold: GoldCounts | None = None

    @property
    def unknown_token_fraction(self) -> float:
        """Unknown tokens as a fraction of ``num_tokens``."""
        return self.num_unknown_tokens / max(self.num_tokens, 1)

    @property
    def mostly_unknown_fraction(self) -> float:
        """Mostly unknown documents as a fraction of those that were computed."""
        return self.num_mostly_unknown / max(self.num_written - self.num_repeated, 1)


class PreviousEntry(_Part):
    """The previous run, from which rows were copied: its id, its folder and the sha256 of its manifest.

    With ``emit: changes`` a run holds only what is new since then, and is complete only together with it.
    Older releases recorded no ``sha256``; then it is empty.
    """

    run_id: str
    root: str
    sha256: str = ""

    @field_validator("run_id")
    @classmethod
    def _is_name(cls, run_id: str) -> str:
        """Rejects an id that is not the name of a folder."""
        if not RUN_ID.fullmatch(run_id):
            raise ValueError(f"the run id {run_id!r} is not the name of a folder")
        return run_id


class DeadFileEntry(_Part):
    """A file that could not be read to its end."""

    source: str
    reason: str
    message: str
    num_documents: int


class WorkerCosts(_Part):
    """Maximum memory and model load time over all worker processes; 0 if unknown.

    ``machines`` names their processors, at most 20 models. ``num_processes`` computed rows and loaded
    ``num_models`` models. ``idle_seconds``: the first of them was done so long before the last one.
    """

    peak_memory_bytes: int = 0
    ready_seconds: float = 0.0
    machines: tuple[str, ...] = ()
    num_processes: int = 0
    num_models: int = 0
    idle_seconds: float = 0.0


class Timeline(_Part):
    """Throughput over time: documents and tokens per bucket of ``bucket_seconds``, from the first row on."""

    started_at: str
    bucket_seconds: float
    seconds: float
    documents: tuple[float, ...]
    tokens: tuple[float, ...]


class RunManifest(_Part):
    """The content of ``manifest.json``, or of ``manifest.failed.json`` with ``failure`` set.

    ``sequence`` is one more than that of the latest run of the root when this one was committed.
    """

    format_version: Literal[1] = 1
    run_id: str
    attempt_id: str
    failure: str | None = None
    failure_kind: Literal["too_many_dead", "counts", "precision", "no_documents"] | None = None
    started_at: str
    finished_at: str
    sequence: int = 0
    bundle: dict[str, Any]
    settings_digest: str
    settings: dict[str, Any] = Field(default_factory=dict)
    precision: str
    config: dict[str, Any]
    previous: PreviousEntry | None = None
    emit: Literal["all", "changes"] = "all"
    counts: RunCounts
    workers: WorkerCosts = WorkerCosts()
    timeline: Timeline | None = None
    files: tuple[RunFile, ...]
    dead_files: tuple[DeadFileEntry, ...] = ()
    versions: dict[str, str]

    @property
    def seconds(self) -> float:
        """How long the run took."""
        started, finished = map(datetime.fromisoformat, (self.started_at, self.finished_at))
        return (finished - started).total_seconds()

    def to_bytes(self) -> bytes:
        """Returns the manifest as indented JSON."""
        return (json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n").encode("utf-8")

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Self:
        """Parses a manifest.

        Raises:
            JobError: the data is not a run manifest, or its version is unknown.
        """
        try:
            raw = parse_json(data)
            version = raw.get("format_version") if isinstance(raw, dict) else None
            if version == FORMAT_VERSION:
                return cls.model_validate(raw)
        except (JsonError, ValidationError) as error:
            raise JobError(f"{where} is not a run manifest: {error}") from error
        raise JobError(
            f"{where} has format version {version!r}; this release reads version {FORMAT_VERSION}."
        )
