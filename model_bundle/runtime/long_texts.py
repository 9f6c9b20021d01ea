"""What becomes of texts that have more tokens than the model takes at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import Rows
from model_bundle.errors import SettingsError


class OnLong(StrEnum):
    """Cut the rest off, split into windows, give no result for the text, or none at all."""

    TRUNCATE = "truncate"
    WINDOWS = "windows"
    DEAD_LETTER = "dead_letter"
    FAIL = "fail"


class Combine(StrEnum):
    """How the vectors of a text's windows become one."""

    MEAN = "mean"
    MAX = "max"


@dataclass(frozen=True)
class LongTexts:
    """What was asked for, and after ``resolve`` what holds.

    ``window_overlap`` are tokens that neighbouring windows have in common. ``combine`` is for one vector a
    text. None means the default: truncate (windows, where rows are windows), 0, and the mean.
    """

    on_long: OnLong | None = None
    window_overlap: int | None = None
    combine: Combine | None = None

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Self:
        """Reads the plain JSON data of one."""
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
        self, bundle: ModelBundle, rows: Rows, max_tokens: int | None, prompt: str, *, is_judged: bool = False
    ) -> LongTexts:
        """Fills in the defaults, and refuses what has no effect or cannot be done.

        Args:
            bundle: whose texts they are.
            rows: what one row of results is.
            max_tokens: the limit that holds, None if there is none.
            prompt: what is put before every text.
            is_judged: results are scores of texts, which windows have no agreed way to share.

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
                "--on_long windows: a classifier's scores of windows are not those of the text, and no way "
                "to join them holds for all. Use truncate or dead_letter, or split the texts before."
            )
        if self.combine is not None and rows is not Rows.DOCUMENT:
            raise SettingsError(
                f"--combine {self.combine} makes one vector a text; with --rows {rows} leave it out."
            )
        overlap = 0 if self.window_overlap is None else self.window_overlap
        _check_overlap(bundle, rows, max_tokens, prompt, overlap)
        combine = Combine(self.combine or Combine.MEAN) if rows is Rows.DOCUMENT else None
        return LongTexts(on_long, overlap, combine)

    def to_text(self, prefix: str) -> dict[str, str]:
        """Returns what holds, by name behind a prefix; ``none`` where something does not apply."""
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


# What was asked for where nothing was, and what that comes to.
DEFAULT_LONG_TEXTS = LongTexts()
TRUNCATE = LongTexts(OnLong.TRUNCATE)


def _check_limit(bundle: ModelBundle, on_long: OnLong, max_tokens: int | None) -> None:
    """Refuses to act on long texts where none is, or where nobody can tell."""
    manifest = bundle.manifest
    if on_long is OnLong.TRUNCATE:
        return
    if manifest.tokenizer.kind not in ("words", "subwords"):
        raise SettingsError(
            f"--on_long {on_long}: only the graph of {manifest.name} knows its tokens, so none can be "
            "counted before it runs. Leave it out, or build the bundle with a tokenizer."
        )
    if max_tokens is None:
        raise SettingsError(
            f"--on_long {on_long}: {manifest.name} takes texts of any length, none is too long. Give a limit "
            "with --max_tokens."
        )


def _check_overlap(
    bundle: ModelBundle, rows: Rows, max_tokens: int | None, prompt: str, overlap: int
) -> None:
    """Lets the text side itself judge, which knows the special tokens and those of the prompt."""
    from model_bundle.text import window_input

    assert max_tokens is not None, "checked by _check_limit"
    window_input(bundle.path, bundle.manifest, max_tokens, prompt, rows, overlap)
