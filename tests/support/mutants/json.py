"""Changes JSON at random, in ways that look for a hole."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any


def mutate_json(value: Any, seed: int, outside: str) -> Any:
    """Returns another content of ``bundle.json``: keys dropped, values exchanged, paths that lead out."""
    chance = random.Random(seed)
    changed = copy.deepcopy(value)
    for _ in range(chance.randint(1, 3)):
        found = list(places(changed))
        holder, key = chance.choice(found)
        strange = [None, True, -1, 10**18, 1.5, "", "../..", outside, "a\0b", [], {}, ["x"], {"x": 1}]
        if chance.random() < 0.2 and isinstance(holder, dict):
            del holder[key]
        elif chance.random() < 0.2 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[key] = chance.choice([*strange, copy.deepcopy(chance.choice(found)[0])])
    return changed


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yields every list and object below a value, with each of its keys."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])
