"""How texts with more tokens than the model takes are handled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Rows
from model_bundle.errors import SettingsError
from model_bundle.text.boundaries import WindowsAt, boundary_rules
from model_bundle.text.grouping import Grouping
from model_bundle.text.windows import WindowInput

DEFAULT_LANGUAGE = "en"
_LANGUAGE = re.compile(r"[a-z]{2,3}")


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

    ``window_overlap``: tokens that adjacent windows share, or sentences where ``windows_at`` is not tokens.
    ``combine``: how windows become one vector per text. ``windows_at``: where windows end.
    ``window_language``: ISO 639 code of the texts, which the ends of sentences depend on. None means the
    default: truncate (windows, where rows are windows), 0, the mean, tokens, and English. ``boundary_rules``:
    what found these ends, set by ``resolve``.
    """

    on_long: OnLong | None = None
    window_overlap: int | None = None
    combine: Combine | None = None
    windows_at: WindowsAt | None = None
    window_language: str | None = None
    boundary_rules: str | None = None

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Self:
        """Reads plain JSON data."""
        on_long, combine, at = said["on_long"], said["combine"], said.get("windows_at")
        return cls(
            None if on_long is None else OnLong(on_long),
            said["window_overlap"],
            None if combine is None else Combine(combine),
            None if at is None else WindowsAt(at),
            said.get("window_language"),
            said.get("boundary_rules"),
        )

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON data; windows that end anywhere are described as in older releases."""
        late = ("windows_at", "window_language", "boundary_rules")
        return {name: value for name, value in asdict(self).items() if name not in late or value is not None}

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
        if best is None and self.combine is Combine.BEST:
            raise SettingsError("--combine best is for scores of pairs of texts: use mean or max.")
        if best is not None and self.combine is not None:
            raise SettingsError(
                f"--combine {self.combine}: of the windows of a pair, the best one counts. Leave it out."
            )
        if best is not None and self.windows_at not in (None, WindowsAt.TOKENS):
            raise SettingsError(
                f"--windows_at {self.windows_at}: the second text of a pair is split after any token. "
                "Leave it out."
            )
        combine = Combine(self.combine or best or Combine.MEAN) if rows is Rows.DOCUMENT else None
        resolved = LongTexts(on_long, self.window_overlap or 0, combine, *self._resolve_boundaries(rows))
        assert max_tokens is not None, "checked by _check_limit"
        resolved.input_of(bundle, max_tokens, prompt, rows)  # checks the overlap
        return resolved

    def input_of(self, bundle: ModelBundle, max_tokens: int, prompt: str, rows: Rows) -> WindowInput:
        """Builds the input of resolved windows.

        Raises:
            SettingsError: the overlap is too large, or other rules for boundaries are installed here than
                where these options were resolved.
        """
        from model_bundle.text import window_input

        overlap, grouping = self.window_overlap or 0, None
        if self.windows_at is not None:
            if boundary_rules() != self.boundary_rules:
                raise SettingsError(
                    f"--windows_at {self.windows_at}: the job was planned with {self.boundary_rules}, but "
                    f"this machine has {boundary_rules()}. Install the same version on all."
                )
            grouping = Grouping(self.windows_at, overlap, self.window_language or DEFAULT_LANGUAGE)
            overlap = 0
        return window_input(bundle.path, bundle.manifest, max_tokens, prompt, rows, overlap, grouping)

    def _resolve_boundaries(self, rows: Rows) -> tuple[WindowsAt | None, str | None, str | None]:
        """Returns where windows end, the language and the rules; None three times for any token."""
        windows_at = WindowsAt(self.windows_at or WindowsAt.TOKENS)
        if windows_at is WindowsAt.TOKENS:
            if self.window_language is not None:
                raise SettingsError(
                    "--window_language is for --windows_at sentence or paragraph. Leave it out, or add one."
                )
            return None, None, None
        if rows is Rows.WORD:
            raise SettingsError(
                f"--windows_at {windows_at}: words are taken from the window with the most context on "
                "both sides, which needs windows of equal size. With --rows word leave it out."
            )
        language = self.window_language or DEFAULT_LANGUAGE
        if not _LANGUAGE.fullmatch(language):
            raise SettingsError(
                f"--window_language {language!r}: expected a code of two or three letters, such as de or zh."
            )
        if self.window_overlap is not None and self.window_overlap < 0:
            raise SettingsError(
                f"--window_overlap {self.window_overlap}: expected a number of sentences, 0 or more."
            )
        return windows_at, language, boundary_rules()

    def to_text(self, prefix: str) -> dict[str, str]:
        """Returns the options by prefixed name; ``none`` where one does not apply."""
        said = {
            f"{prefix}on_long": str(self.on_long or "none"),
            f"{prefix}window_overlap": "none" if self.window_overlap is None else str(self.window_overlap),
            f"{prefix}combine": str(self.combine or "none"),
        }
        return said if self.windows_at is None else said | {f"{prefix}windows_at": str(self.windows_at)}

    def _check_no_windows(self, on_long: OnLong, rows: Rows) -> None:
        if rows is Rows.WINDOW:
            raise SettingsError(
                f"--rows window splits long texts; --on_long {on_long} does not. Leave one out."
            )
        for name in ("window_overlap", "combine", "windows_at", "window_language"):
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
