"""Names of a model's inputs as TensorFlow takes them: as parameters of a function."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain, count
from keyword import iskeyword

_OTHER = re.compile(r"\W", re.ASCII)


def parameter_names(names: Iterable[str]) -> dict[str, str]:
    """Returns a distinct parameter name by input name; a name that is valid is kept.

    A name is changed as TensorFlow changes it where it saves a Keras model. Names that would become equal are
    numbered.

    >>> parameter_names(["Input-Token", "1st", "a.b", "a_b"])
    {'Input-Token': 'Input_Token', '1st': 'arg_1st', 'a.b': 'a_b_2', 'a_b': 'a_b'}
    """
    names = list(names)
    taken = {name for name in names if _valid(name) == name}
    found = {}
    for name in names:
        found[name] = name if name in taken else _free(_valid(name), taken)
        taken.add(found[name])
    return found


def _valid(name: str) -> str:
    valid = _OTHER.sub("_", name)
    return valid if valid[:1].isalpha() and not iskeyword(valid) else f"arg_{valid}"


def _free(name: str, taken: set[str]) -> str:
    numbered = (f"{name}_{number}" for number in count(2))
    return next(one for one in chain([name], numbered) if one not in taken)
