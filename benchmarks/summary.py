"""Summarises rounds as the figures of the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.registry import PEAK, PRECISIONS
from benchmarks.spread import Spread, ratios

Rounds = Mapping[str, Sequence[Mapping[str, Any]]]
OURS = tuple(f"ours_{precision}" for precision in PRECISIONS)


@dataclass(frozen=True)
class LoopRow:
    """One model loop.

    Shares of the peak relate useful operations to the peak measured in the same run; None where there is no
    peak in this precision.
    """

    name: str
    documents_per_second: Spread
    documents_per_cpu_second: Spread
    tokens_per_second: float
    model_tokens_per_second: float
    tokenize_share: float
    padding: float
    share_of_model_peak: float | None
    share_of_large_peak: float | None
    peak_memory_bytes: int
    others_share: float | None


@dataclass(frozen=True)
class RatioRow:
    """Speed of our systems relative to a peer, by our name: by time and by processor time."""

    name: str
    whole: dict[str, Spread]
    cpu: dict[str, Spread]


@dataclass(frozen=True)
class JobRow:
    """One job from text to Parquet; ``seconds`` without start-up."""

    name: str
    documents_per_second: Spread
    startup_seconds: float
    peak_memory_bytes: int
    others_share: float | None
    ratios: dict[str, Spread]


def column(rounds: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    """Returns one figure per round."""
    return [float(answer[key]) for answer in rounds]


def peaks(rounds: Rounds) -> dict[str, Spread]:
    """Returns FLOP/s of matrix products by ``precision/shape``."""
    measured = [answer["flops_per_second"] for answer in rounds[PEAK]]
    return {name: Spread.of([answer[name] for answer in measured]) for name in measured[0]}


def loop_rows(rounds: Rounds, num_documents: int, flops: int) -> list[LoopRow]:
    """Summarises every loop.

    Args:
        rounds: answers by system, including the matrix products.
        num_documents: documents per round.
        flops: useful operations per round.
    """
    best = peaks(rounds)
    return [
        _loop_row(name, answers, best, num_documents, flops)
        for name, answers in rounds.items()
        if name != PEAK
    ]


def _loop_row(
    name: str,
    answers: Sequence[Mapping[str, Any]],
    best: Mapping[str, Spread],
    num_documents: int,
    flops: int,
) -> LoopRow:
    seconds, in_model = Spread.of(column(answers, "seconds")), Spread.of(column(answers, "model_seconds"))
    tokens, padded = answers[0]["num_tokens"], answers[0]["num_padded_tokens"]
    speed, product = flops / in_model.median, precision_of(name).split("_")[0]
    tokenizing = ratios(column(answers, "tokenize_seconds"), column(answers, "seconds"))
    return LoopRow(
        name=name,
        documents_per_second=Spread.of([num_documents / s for s in column(answers, "seconds")]),
        documents_per_cpu_second=Spread.of([num_documents / s for s in column(answers, "cpu_seconds")]),
        tokens_per_second=tokens / seconds.median,
        model_tokens_per_second=tokens / in_model.median,
        tokenize_share=tokenizing.median,
        padding=1 - tokens / padded,
        share_of_model_peak=_share(speed, best.get(f"{product}/model")),
        share_of_large_peak=_share(speed, best.get(f"{product}/large")),
        peak_memory_bytes=max(answer["peak_memory_bytes"] for answer in answers),
        others_share=worst_share(answers),
    )


def _share(speed: float, peak: Spread | None) -> float | None:
    return None if peak is None else speed / peak.median


def precision_of(name: str) -> str:
    """Returns the precision that a system's name ends with."""
    return max((p for p in PRECISIONS if name.endswith(f"_{p}")), key=len, default="")


def worst_share(answers: Sequence[Mapping[str, Any]]) -> float | None:
    """Returns the largest share of the machine that other processes used in any round."""
    shares = [answer["others_share"] for answer in answers if answer["others_share"] is not None]
    return max(shares, default=None)


def ratio_rows(rounds: Rounds) -> list[RatioRow]:
    """Compares every loop with ours, round by round."""
    ours = [name for name in OURS if name in rounds]

    def against(name: str, key: str) -> dict[str, Spread]:
        return {our: ratios(column(rounds[name], key), column(rounds[our], key)) for our in ours}

    names = [name for name in rounds if name != PEAK]
    return [RatioRow(name, against(name, "seconds"), against(name, "cpu_seconds")) for name in names]


def job_rows(rounds: Rounds, num_documents: int) -> list[JobRow]:
    """Summarises every job and compares it with ours."""
    ours = [name for name in (f"job_{precision}" for precision in PRECISIONS) if name in rounds]
    return [
        JobRow(
            name=name,
            documents_per_second=Spread.of([num_documents / s for s in column(answers, "seconds")]),
            startup_seconds=Spread.of(column(answers, "startup_seconds")).median,
            peak_memory_bytes=max(answer["peak_memory_bytes"] for answer in answers),
            others_share=worst_share(answers),
            ratios={o: ratios(column(answers, "seconds"), column(rounds[o], "seconds")) for o in ours},
        )
        for name, answers in rounds.items()
        if not name.startswith("loop_")
    ]


def job_overheads(
    rounds: Rounds, job_documents: int, loop_documents: int, key: str = "seconds"
) -> dict[str, Spread]:
    """Returns the relative overhead per document of a job over the model loop, by precision; 0.05 is 5 %.

    Args:
        key: ``seconds`` for the whole command, ``commit_seconds`` until the manifest is written.
    """
    overheads = {}
    for name, answers in rounds.items():
        if not name.startswith("loop_"):
            continue
        precision = precision_of(name)
        job = [s / job_documents for s in column(rounds[f"job_{precision}"], key)]
        loop = [s / loop_documents for s in column(answers, "seconds")]
        spread = ratios(job, loop)
        overheads[precision] = Spread(spread.median - 1, spread.lowest - 1, spread.highest - 1)
    return overheads
