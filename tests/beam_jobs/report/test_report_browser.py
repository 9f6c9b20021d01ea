"""The report in a real browser: marks are drawn, in both colour schemes, and nothing foreign runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beam_jobs.base.records import DeadLetter
from beam_jobs.report.page import make_page
from beam_jobs.store.finished_run import find_run
from beam_jobs.store.manifest import Timeline
from tests.beam_jobs.report.test_report import HOSTILE, shards
from tests.support.runs.made_runs import make_run, rewrite_manifest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Of style.css: page, first colour, second colour.
SCHEMES = {"light": (1, "f7f7f5", "2563a8", "c9772b"), "dark": (0, "15171a", "6fa8e6", "e6a15e")}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a run of hostile texts, with every chart."""
    root = tmp_path_factory.mktemp("report")
    made = shards(400, text=[HOSTILE + " text"] * 400, kind=["ab"[i % 2] for i in range(400)])
    dead = [DeadLetter(HOSTILE, "in", "read", "broken_json", HOSTILE, HOSTILE)]
    run = make_run(root, "run", made, dead=dead)
    counts = find_run(str(run)).manifest.counts
    more = {"num_tokens": 9000, "num_padded_tokens": 12_000, "num_lost_tokens": 1000, "num_truncated": 3}
    more["documents_by_tokens"] = {8: 10, 16: 100, 24: 60, 32: 5}
    timeline = Timeline(
        started_at="2026-11-20T09:00:00+00:00",
        bucket_seconds=1.0,
        seconds=4.0,
        documents=(100, 100, 100, 100),
        tokens=(1000, 4000, 3000, 1000),
    )
    rewrite_manifest(run, counts=counts.model_dump() | more, timeline=timeline.model_dump())
    target = root / "report.html"
    target.write_text(make_page(find_run(str(run))), encoding="utf-8")
    return target


def browse(tmp_path: Path, report: Path, *flags: str) -> str:
    """Opens the page in headless Chromium; gives what it prints."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    command = [
        found, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        f"--user-data-dir={tmp_path}", *flags, report.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_marks_are_drawn_in_the_readers_scheme(tmp_path: Path, report: Path, scheme: str) -> None:
    number, page, first, second = SCHEMES[scheme]
    picture = tmp_path / "page.png"
    flags = (f"--blink-settings=preferredColorScheme={number}", "--window-size=1000,2400")
    browse(tmp_path, report, *flags, f"--screenshot={picture}")
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    assert tuple(pixels[2, 2]) == rgb(page)

    def drawn(colour: str) -> np.ndarray:
        return np.abs(pixels - rgb(colour)).max(axis=2) <= 2

    bars = drawn(first)
    # The bars of the two charts, the bars of shares, and points too small for their exact colour.
    assert bars.sum() > 60_000
    heights = chart_heights(bars)
    assert [round(height, 1) for height in heights[0]] == [0.1, 1.0, 0.6, 0.0]
    assert [round(height, 2) for height in heights[1]] == [0.25, 1.0, 0.75, 0.25]
    assert 2000 < drawn(second).sum() < bars.sum()
    # Points are half transparent: on the card, each scheme has many pixels that are neither.
    assert len(np.unique(pixels[200:900].reshape(-1, 3), axis=0)) > 200


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (0, 2, 4))


def chart_heights(bars: np.ndarray) -> list[list[float]]:
    """Finds charts of four wide bars that stand on one line; their heights, the largest 1."""
    wide = bars.sum(axis=1) > 150
    edges = np.flatnonzero(np.diff(np.concatenate([[0], wide.astype(int), [0]])))
    found = []
    for top, bottom in zip(edges[::2], edges[1::2], strict=True):
        if bottom - top < 90:  # a bar of shares
            continue
        columns = bars[top - 40 : bottom, :].sum(axis=0)
        inside = np.flatnonzero(bars[top:bottom].any(axis=0))
        left, right = inside.min(), inside.max()
        quarter = (right - left) / 4
        middles = [int(left + quarter * (i + 0.5)) for i in range(4)]
        heights = columns[middles]
        found.append([float(height / heights.max()) for height in heights])
    return found


def test_only_the_pages_own_script_runs(tmp_path: Path, report: Path) -> None:
    dom = browse(tmp_path, report, "--dump-dom")
    assert re.search(r"<title>([^<]*)</title>", dom)[1] == "Run run"  # type: ignore[index]
    assert 'id="hint"' in dom
    # The script has taken every title of a mark, and nothing else was made of the texts.
    assert dom.count("<circle") == dom.count('class="point') == 400
    assert len(re.findall(r"<circle[^>]*data-hint=", dom)) == 400
    assert "<img" not in dom
    assert dom.count("<script") == 1
