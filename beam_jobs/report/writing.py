"""Writes the report of a run. A run never fails for its report."""

from __future__ import annotations

import logging

from beam_jobs.report.page import make_page
from beam_jobs.store import filesystem
from beam_jobs.store.finished_run import FinishedRun
from beam_jobs.store.manifest import REPORT_NAME, RunManifest

_logger = logging.getLogger(__name__)


def try_report(folder: str, manifest: RunManifest) -> None:
    """Writes ``report.html`` into a run's folder, or says why it could not.

    The rows are there and counted; nothing that goes wrong here may take them back. The page can be made
    later with ``python -m beam_jobs.report``.
    """
    try:
        page = make_page(FinishedRun(folder, manifest))
        filesystem.replace(filesystem.join(folder, REPORT_NAME), page.encode("utf-8"))
    except Exception as error:  # whatever it is: the run is worth more than its report
        _logger.warning(
            "No %s for run %s: %s. The run itself is not touched; make the report again with: python -m "
            "beam_jobs.report %s",
            REPORT_NAME,
            manifest.run_id,
            error,
            folder,
        )
