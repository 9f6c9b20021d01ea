"""Builds and writes the page; its content security policy forbids any network access."""

from __future__ import annotations

import base64
import hashlib
import logging
from importlib.resources import files

from beam_jobs.base.units import count
from beam_jobs.report import classes, sections
from beam_jobs.report.markup import safe
from beam_jobs.report.projection import project
from beam_jobs.report.row_sample import class_examples, dead_examples, sample_rows
from beam_jobs.report.unknown_rows import unknown_section
from beam_jobs.store.chain import with_chain
from beam_jobs.store.finished_run import FinishedRun
from beam_jobs.store.manifest import REPORT_NAME, RunManifest

_logger = logging.getLogger(__name__)
# Fewer rows than this lie on a line, which makes no map.
_MAP_ROWS = 3


def make_page(run: FinishedRun) -> str:
    """Builds the report of a run in bounded memory from some of its row groups, and of those before it.

    Under ``--no_text`` only ids and vectors are read from the rows.

    Raises:
        Exception: a file cannot be read.
    """
    manifest = run.manifest
    with_text = not manifest.config.get("no_text", False)
    sample = sample_rows(run, with_text=with_text)
    examples = dead_examples(run, with_text=with_text)
    reason = "the run stores none (add --keep_text)." if with_text else "the run was made with --no_text."
    drawn = near = ""
    if sample is not None and len(sample.names) >= _MAP_ROWS:
        projection = project(sample.vectors)
        drawn = sections.vector_map(sample, projection, reason)
        near = sections.nearest_neighbours(sample, projection)
    body = "".join(
        (
            _head(run),
            sections.tiles(manifest),
            sections.changes(manifest),
            drawn,
            classes.labels(manifest),
            classes.gold(manifest),
            classes.confidence(manifest),
            classes.examples(class_examples(run, with_text=with_text), reason),
            sections.length_histogram(manifest),
            sections.throughput(manifest),
            sections.padding_and_truncation(manifest),
            unknown_section(run, with_text=with_text),
            sections.dead_letters(manifest, examples),
            near,
            sections.provenance(manifest),
        )
    )
    return _document(f"Run {manifest.run_id}", body)


def try_report(folder: str, manifest: RunManifest) -> None:
    """Writes ``report.html`` into a run's folder, or logs a warning with the reason it could not.

    The rows are complete at this point, so no error here may fail the run; ``python -m beam_jobs.report`` can
    make the page later.
    """
    from beam_jobs.store import filesystem  # imports Beam, which building a page does not need

    try:
        run = FinishedRun(folder, manifest)
        page = make_page(run if manifest.failure else with_chain(run))
        filesystem.replace(filesystem.join(folder, REPORT_NAME), page.encode("utf-8"))
    except Exception as error:  # of any type: the run must not fail for its report
        _logger.warning(
            "No %s for run %s: %s. The run itself is not affected; make the report again with: python -m "
            "beam_jobs.report %s",
            REPORT_NAME,
            manifest.run_id,
            error,
            folder,
        )


def _head(run: FinishedRun) -> str:
    manifest = run.manifest
    settings, bundle = manifest.settings, manifest.bundle
    layers = ", ".join(map(str, settings.get("outputs", ())))
    what = " · ".join(
        filter(None, (str(bundle.get("name", "")), layers, manifest.precision, manifest.finished_at))
    )
    if manifest.emit == "changes" and manifest.previous is not None:
        what += f" · only what changed since {manifest.previous.run_id}"
        if run.before:
            what += (
                f"; the map and its neighbours are of all rows, with {count(len(run.before), 'run')} before"
            )
    failed = f'<p class="failed"><b>FAILED.</b> {safe(manifest.failure)}</p>' if manifest.failure else ""
    return f"<header><h1>Run {safe(manifest.run_id)}</h1><p>{safe(what)}</p>{failed}</header>"


def _document(title: str, body: str) -> str:
    style, script = _resource("style.css"), _resource("hover.js")
    # Only this script may run and nothing may be fetched, so markup that escaped escaping has no effect.
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{safe(title)}</title><style>{style}</style></head>"
        f"<body><main>{body}</main><script>{script}</script></body></html>\n"
    )


def _resource(name: str) -> str:
    return (files("beam_jobs.report") / name).read_text(encoding="utf-8")
