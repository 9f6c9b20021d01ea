"""Options of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from model_bundle.errors import SettingsError

# Epochs and rate of a head alone, and of fine-tuning, with the texts of its steps.
_HEAD_EPOCHS, _HEAD_RATE = 60, 3e-3
_TUNE_EPOCHS, _TUNE_RATE, _TUNE_TEXTS = 2, 5e-5, 32
# With less, SST-2 on MiniLM overfits; with 0.2 it underfits. A hidden layer needs less.
_L2, _L2_HIDDEN = 0.05, 0.01
# The largest seed of NumPy.
_MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class DataOptions:
    """Where the rows are, and which columns to use.

    ``dev``: a file of held-out rows; without it, ``held_out`` is the fraction of ``data`` to hold out.
    ``column_names``: for files without a header row. ``numeric_columns``: numbers that the head takes in
    addition to the vector.
    """

    data: Path
    text_column: str
    label_column: str
    dev: Path | None = None
    held_out: float = 0.1
    column_names: tuple[str, ...] = ()
    csv_quotes: bool = True
    numeric_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks what can be checked without the file.

        Raises:
            SettingsError: names the option.
        """
        if not 0 < self.held_out < 1:
            raise SettingsError(
                f"--held_out {self.held_out}: expected a fraction between 0 and 1, such as 0.1."
            )
        columns = (self.text_column, self.label_column, *self.numeric_columns)
        repeated = sorted({name for name in columns if columns.count(name) > 1})
        if repeated:
            raise SettingsError(
                f"The column {repeated[0]} is named twice; text, label and numbers are different columns."
            )


@dataclass(frozen=True)
class HeadOptions:
    """How the head is trained, and whether the encoder below it is.

    ``hidden``: units of a layer between the vector and the labels; 0 means none, a logistic regression.
    ``epochs``, ``learning_rate`` and ``batch_texts``: None means the default of a head alone (60, 3e-3, up to
    256) or of fine-tuning (2, 5e-5, 32). ``l2``: the penalty on the head's matrices, whose inputs are
    standardised; None means 0.05, or 0.01 with a hidden layer. ``patience``: epochs without improvement of
    the held-out loss before stopping. ``class_weights``: empty, ``balanced``, or a factor by label. ``mix``:
    learn the weight of each layer in the vector.
    """

    hidden: int = 0
    epochs: int | None = None
    learning_rate: float | None = None
    l2: float | None = None
    batch_texts: int | None = None
    patience: int = 5
    class_weights: str | Mapping[str, float] = ""
    mix: bool = False
    fine_tune: bool = False
    seed: int = 1

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            SettingsError: names the option.
        """
        if not 0 <= self.seed <= _MAX_SEED:
            raise SettingsError(f"--seed {self.seed}: expected 0 to {_MAX_SEED}.")
        if self.learning_rate is not None and not 0 < self.learning_rate < 10:
            raise SettingsError(f"--learning_rate {self.learning_rate}: expected more than 0, such as 5e-5.")
        if self.l2 is not None and not 0 <= self.l2 < 100:
            raise SettingsError(f"--l2 {self.l2}: expected 0 or more, such as 0.02.")
        if self.mix and self.fine_tune:
            raise SettingsError(
                "--mix trains on frozen layers, --fine_tune changes them: use only one of them."
            )

    def filled(self) -> Self:
        """Fills in defaults; ``batch_texts`` of a head alone stays None, since it depends on the rows."""
        tuned = self.fine_tune
        return replace(
            self,
            epochs=self.epochs or (_TUNE_EPOCHS if tuned else _HEAD_EPOCHS),
            learning_rate=self.learning_rate or (_TUNE_RATE if tuned else _HEAD_RATE),
            batch_texts=self.batch_texts or (_TUNE_TEXTS if tuned else None),
            l2=self.l2 if self.l2 is not None else _L2_HIDDEN if self.hidden else _L2,
        )

    def for_head(self) -> Self:
        """Returns the options of the head alone: with fine-tuning, most options refer to the encoder."""
        if not self.fine_tune:
            return self.filled()
        alone = replace(self, fine_tune=False, epochs=None, learning_rate=None, batch_texts=None, patience=5)
        return alone.filled()

    def to_json(self) -> dict[str, Any]:
        """Returns the options as plain JSON data, with defaults filled in."""
        weights = self.class_weights
        return {
            **asdict(self.filled()),
            "class_weights": weights if isinstance(weights, str) else dict(weights),
        }


@dataclass(frozen=True)
class TrainOptions:
    """All options of a training."""

    data: DataOptions
    head: HeadOptions = field(default_factory=HeadOptions)
    max_tokens: int | None = None
    name: str | None = None
