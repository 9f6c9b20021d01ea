"""The errors of this package, one tree.

::

    ModelBundleError
    ├── UsageError              a command's flags are wrong; nothing was started
    ├── BundleFormatError       bundle.json is missing, unreadable or of an unknown version
    ├── BundleIntegrityError    a file is changed, added, missing or outside; a pinned digest differs
    ├── ForbiddenOperationError the model's graph can access files, the network or Python
    ├── GoldenMismatchError     the model no longer computes the vectors recorded at build time
    ├── SourceError             a saved model that cannot become a bundle
    │   └── WeightsMismatchError    weights are unused, missing or of the wrong shape
    ├── SettingsError           an option that does not fit this model bundle
    ├── MissingExtraError       a package that this model bundle needs is not installed
    ├── TextTooLongError        a text exceeds the token limit and the request forbids truncation
    └── ModelRunError           the model failed on a batch
        ├── ModelMemoryError    it ran out of memory; a smaller batch may succeed
        ├── ModelCrashError     it crashed its process
        └── NonFiniteError      it returned NaN or infinity

Every message states what was expected, what was found and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class ModelBundleError(Exception):
    """Base of all errors that a user of this package can cause or fix; ``exit_code`` is a command's."""

    exit_code = 2


class UsageError(ModelBundleError):
    """A command's flags are wrong; nothing was started."""


class BundleFormatError(ModelBundleError):
    """``bundle.json`` is missing, unreadable or of an unknown version."""


class BundleIntegrityError(ModelBundleError):
    """The files of a model bundle are not the ones its manifest lists."""


class ForbiddenOperationError(ModelBundleError):
    """A model's graph uses operations with effects outside the model.

    Args:
        what: the model.
        operations: for each operation name, what it does and where it occurs.
    """

    def __init__(self, what: str, operations: Mapping[str, str]) -> None:
        self.operations = tuple(sorted(operations))
        lines = [f"{what} was not opened: a SavedModel is a program, and this one can do more than compute."]
        lines += [f"  {operations[name]}" for name in self.operations]
        lines.append(
            "If you trust its author, allow these operations by name when building or opening it: "
            f"--allow_ops {','.join(self.operations)}"
        )
        super().__init__("\n".join(lines))


class GoldenMismatchError(ModelBundleError):
    """A model bundle no longer produces the vectors recorded at build time."""


class SourceError(ModelBundleError):
    """A saved model cannot become a model bundle."""


class WeightsMismatchError(SourceError):
    """Stored weights do not match the weights a graph expects.

    Args:
        source: where the weights came from.
        missing: expected names that the source lacks.
        unused: stored names that the graph does not use.
        wrong_shapes: one line per weight, with both shapes.
    """

    def __init__(
        self,
        source: str,
        *,
        missing: Sequence[str] = (),
        unused: Sequence[str] = (),
        wrong_shapes: Sequence[str] = (),
    ) -> None:
        self.missing, self.unused, self.wrong_shapes = tuple(missing), tuple(unused), tuple(wrong_shapes)
        lines = [f"The weights in {source} do not fit the model that its configuration describes."]
        for title, names in (
            ("Expected, but not stored", missing),
            ("Stored, but not expected", unused),
            ("Of another shape", wrong_shapes),
        ):
            if names:
                lines.append(f"{title} ({len(names)}):")
                lines.extend(f"  {name}" for name in names)
        lines.append("Nothing was built. Check that the configuration and the weights belong together.")
        super().__init__("\n".join(lines))


class SettingsError(ModelBundleError):
    """An option does not fit this model bundle."""


class MissingExtraError(ModelBundleError):
    """A package that this model bundle needs is not installed."""


class TextTooLongError(ModelBundleError):
    """A text has more tokens than the limit, and the request is to fail on such texts.

    Args:
        text_index: position of the first such text.
        num_tokens: its number of tokens.
        max_tokens: the limit.
    """

    def __init__(self, text_index: int, num_tokens: int, max_tokens: int) -> None:
        self.text_index, self.num_tokens, self.max_tokens = text_index, num_tokens, max_tokens
        super().__init__(f"Text {text_index} has {num_tokens} tokens, the limit is {max_tokens}.")


class ModelRunError(ModelBundleError):
    """The model failed on a batch."""


class ModelMemoryError(ModelRunError):
    """The model ran out of memory; a smaller batch may succeed."""


class ModelCrashError(ModelRunError):
    """The model crashed its process; part of the batch may succeed."""


class NonFiniteError(ModelRunError):
    """The model returned NaN or infinity."""
