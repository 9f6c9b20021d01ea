"""How texts with more tokens than the model takes are handled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Rows
from model_bundle.errors import SettingsError


class OnLong(StrEnum):
    """Truncate the text, split it into windows, leave it without a result, or fail altogether."""

    TRUNCATE = "truncate"
    WINDOWS = "windows"
    DEAD_LETTER = "dead_letter"
    FAIL = "fail"


class Combine(StrEnum):
    """How the vectors of a text's windows become one; ``best`` is the scores of the most confident window."""

    MEAN = "mean"
    MAX = "max"
    BEST = "best"


@dataclass(frozen=True)
class LongTexts:
    """The options for long texts: as requested, and after ``resolve`` with defaults filled in.

    ``window_overlap``: tokens that adjacent windows share. ``combine``: how windows become one vector per
    text. None means the default: truncate (windows, where rows are windows), 0, and the mean.
    """

    on_long: OnLong | None = None
    window_overlap: int | None = None
    combine: Combine | None = None

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Self:
        """Reads plain JSON data."""
        on_long, combine = said["on_long"], said["combine"]
        return cls(
            None if on_long is None else OnLong(on_long),
            said["window_overlap"],
            None if combine is None else Combine(combine),
        )

    @property
    def are_windows(self) -> bool:
        """Whether long texts become windows."""
        return self.on_long is OnLong.WINDOWS

    def resolve(
        self,
        bundle: ModelBundle,
        rows: Rows,
        max_tokens: int | None,
        prompt: str,
        *,
        is_judged: bool = False,
        best: Combine | None = None,
    ) -> LongTexts:
        """Fills in the defaults and rejects options that are impossible or without effect.

        Args:
            bundle: the bundle to use.
            rows: what one row of results stands for.
            max_tokens: the token limit, None if there is none.
            prompt: the prefix of every text.
            is_judged: results are scores of texts, which cannot be combined over windows.
            best: how the best of a pair's windows is found; the caller cannot choose another combination.

        Raises:
            SettingsError: names the option and what to do.
        """
        default = OnLong.WINDOWS if rows is Rows.WINDOW else OnLong.TRUNCATE
        on_long = OnLong(self.on_long or default)
        _check_limit(bundle, on_long, max_tokens)
        if on_long is not OnLong.WINDOWS:
            self._check_no_windows(on_long, rows)
            return LongTexts(on_long)
        if is_judged:
            raise SettingsError(
                "--on_long windows: a classifier's scores of windows are not those of the text, and there is "
                "no general way to combine them. Use truncate or dead_letter, or split the texts beforehand."
            )
        if self.combine is not None and rows is not Rows.DOCUMENT:
            raise SettingsError(
                f"--combine {self.combine} yields one vector per text; with --rows {rows} leave it out."
            )
        if best is not None and self.combine is not None:
            raise SettingsError(
                f"--combine {self.combine}: of the windows of a pair, the best one counts. Leave it out."
            )
        overlap = 0 if self.window_overlap is None else self.window_overlap
        _check_overlap(bundle, rows, max_tokens, prompt, overlap)
        combine = Combine(self.combine or best or Combine.MEAN) if rows is Rows.DOCUMENT else None
        return LongTexts(on_long, overlap, combine)

    def to_text(self, prefix: str) -> dict[str, str]:
        """Returns the options by prefixed name; ``none`` where one does not apply."""
        return {
            f"{prefix}on_long": str(self.on_long or "none"),
            f"{prefix}window_overlap": "none" if self.window_overlap is None else str(self.window_overlap),
            f"{prefix}combine": str(self.combine or "none"),
        }

    def _check_no_windows(self, on_long: OnLong, rows: Rows) -> None:
        if rows is Rows.WINDOW:
            raise SettingsError(
                f"--rows window splits long texts; --on_long {on_long} does not. Leave one out."
            )
        for name in ("window_overlap", "combine"):
            if getattr(self, name) is not None:
                raise SettingsError(
                    f"--{name} is for --on_long windows, not {on_long}. Leave one of them out."
                )


# The request without options, and its usual resolution.
DEFAULT_LONG_TEXTS = LongTexts()
TRUNCATE = LongTexts(OnLong.TRUNCATE)


def _check_limit(bundle: ModelBundle, on_long: OnLong, max_tokens: int | None) -> None:
    """Rejects handling of long texts where there is no limit or where tokens cannot be counted."""
    manifest = bundle.manifest
    if on_long is OnLong.TRUNCATE:
        return
    if manifest.tokenizer.kind not in ("words", "subwords"):
        raise SettingsError(
            f"--on_long {on_long}: {manifest.name} tokenizes inside its graph, so tokens cannot be counted "
            "before it runs. Leave it out, or build the bundle with a tokenizer."
        )
    if max_tokens is None:
        raise SettingsError(
            f"--on_long {on_long}: {manifest.name} takes texts of any length. Set a limit with --max_tokens."
        )


def _check_overlap(
    bundle: ModelBundle, rows: Rows, max_tokens: int | None, prompt: str, overlap: int
) -> None:
    """Builds the window input, which checks the overlap against the special tokens and the prompt."""
    from model_bundle.text import window_input

    assert max_tokens is not None, "checked by _check_limit"
    window_input(bundle.path, bundle.manifest, max_tokens, prompt, rows, overlap)
