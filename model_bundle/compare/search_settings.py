"""Searches for settings that reproduce reference vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from model_bundle.base.similarity import Tolerance, distances
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Rows
from model_bundle.compare.reference_model import RawModel
from model_bundle.compare.settings import Preparation, RawText, Reading, Settings, preparations, readings
from model_bundle.errors import ModelRunError, SettingsError

# Number of texts tried: enough to distinguish settings, few enough for a model that takes a second per text.
MAX_TRIED = 6
# Common limits, tried first; the rest of a range only if it is short.
_USUAL_LIMITS: tuple[int, ...] = (
    *(8, 10, 12, 16, 20, 25, 30, 32, 40, 48, 50, 60, 64, 80, 96, 100, 120, 128, 150, 160, 192, 200, 220, 250),
    *(254, 256, 300, 320, 350, 384, 400, 448, 450, 500, 510, 512),
)
_SHORT_RANGE = 64
_MAX_PARTIAL = 4


@dataclass(frozen=True)
class Search:
    """Reference vectors to explain, shortest text first, and the model to try.

    ``numbers``: float64[texts, columns], the numeric inputs. ``scale``: the largest element of all reference
    vectors.
    """

    bundle: ModelBundle
    model: RawModel
    rows: Rows
    texts: Sequence[str]
    numbers: np.ndarray
    expected: Sequence[np.ndarray]
    tolerance: Tolerance
    scale: float

    def run(self) -> list[Settings]:
        """Returns the settings that reproduce every text's reference vector; may be none."""
        dim = self.expected[0].shape[-1]
        tried: list[_Tried] = []
        for preparation in preparations(self.bundle):
            raws = self._raws(preparation)
            if raws is None:
                continue
            lengths = np.array([raw.num_tokens for raw in raws])
            for reading in readings(self.bundle, dim, self.rows):
                same = self._same(raws, reading, self.expected)
                tried.append(_Tried(Settings(preparation, reading), same, lengths))
        matching = [one.settings for one in tried if one.same.all()]
        return matching or self._other_limits(tried)

    def _other_limits(self, tried: Sequence[_Tried]) -> list[Settings]:
        """Tries other limits, which are likely if short texts match and long ones do not."""
        partial = sorted((one for one in tried if one.is_cut), key=lambda one: -int(one.same.sum()))
        found = [match for one in partial[:_MAX_PARTIAL] for match in self._limits_between(one)]
        if found or partial:
            return found
        unlike = [one for one in tried if one.settings.preparation == Preparation()]
        shortest = min((int(one.lengths.min()) for one in unlike), default=0)
        for limit in [limit for limit in _USUAL_LIMITS if limit < shortest]:
            preparation = Preparation(max_tokens=limit)
            raws = self._raws(preparation)
            if raws is not None:
                matches = [o for o in unlike if self._same(raws, o.settings.reading, self.expected).all()]
                found += [replace(one.settings, preparation=preparation) for one in matches]
        return found

    def _limits_between(self, one: _Tried) -> list[Settings]:
        """Tries limits from the longest matching text to the shortest that differs, then larger ones."""
        low, high = int(one.lengths[one.same].max()), int(one.lengths[~one.same].min())
        between: Iterable[int] = range(low, high)
        if high - low > _SHORT_RANGE:
            between = [limit for limit in _USUAL_LIMITS if low <= limit < high]
        own = self.bundle.manifest.max_tokens
        beyond = [] if own is None else [limit for limit in _USUAL_LIMITS if limit > own]
        for limit in [*between, *beyond, 0]:
            preparation = replace(one.settings.preparation, max_tokens=limit)
            if self._all_same(one, preparation):
                return [Settings(preparation, one.settings.reading)]
        return []

    def _all_same(self, one: _Tried, preparation: Preparation) -> bool:
        for index in np.flatnonzero(~one.same).tolist():
            raws = self._raws(preparation, [index])
            if raws is None or not self._same(raws, one.settings.reading, [self.expected[index]]).all():
                return False
        return True

    def _raws(self, preparation: Preparation, texts: Sequence[int] | None = None) -> list[RawText] | None:
        """Runs the texts at these positions, or all; None if the model does not support it."""
        chosen = range(len(self.texts)) if texts is None else texts
        try:
            return [self.model.run(self.texts[i], preparation, self.numbers[i]) for i in chosen]
        except (ModelRunError, SettingsError):
            return None  # more tokens than positions, or a signature that the bundle lacks

    def _same(self, raws: Sequence[RawText], reading: Reading, expected: Sequence[np.ndarray]) -> np.ndarray:
        found = [reading.apply(raw, self.bundle, self.rows) for raw in raws]
        return distances(found, expected, self.tolerance, self.scale).same


@dataclass(frozen=True)
class _Tried:
    """Settings, bool[texts] that they explain, and int[texts] lengths in tokens."""

    settings: Settings
    same: np.ndarray
    lengths: np.ndarray

    @property
    def is_cut(self) -> bool:
        """Whether all texts up to some length match, and none above."""
        if not self.same.any() or self.same.all():
            return False
        return bool(self.lengths[self.same].max() < self.lengths[~self.same].min())


def pick_texts(num_tokens: Sequence[int], same: np.ndarray) -> list[int]:
    """Picks texts to try, shortest first: those that differ, of all lengths, and one that does not.

    Args:
        num_tokens: length of each text, in any unit.
        same: bool[texts], which ones already match.
    """
    by_length: Callable[[int], int] = num_tokens.__getitem__
    unlike = sorted(np.flatnonzero(~same).tolist(), key=by_length)
    alike = sorted(np.flatnonzero(same).tolist(), key=by_length)
    places = np.linspace(0, len(unlike) - 1, min(len(unlike), MAX_TRIED)).astype(int)
    return sorted({*(unlike[place] for place in places), *alike[-1:]}, key=by_length)
