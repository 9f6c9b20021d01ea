"""Which Einsum equations are products of rows and a matrix."""

from __future__ import annotations


def as_product(equation: str) -> tuple[tuple[int, ...], int] | None:
    """Reads an equation of two factors, of which the second is a weight.

    Args:
        equation: such as ``abc,cde->abde``.

    Returns:
        The order of the weight's axes, those that are summed over first, and how many these are; None if the
        result is not that of rows times a matrix: these axes must come last in the first factor, and the
        others of the weight last in the result.

    >>> as_product("abc,cde->abde"), as_product("abcd,cde->abe"), as_product("...x,yx->...y")
    (((0, 1, 2), 1), ((0, 1, 2), 2), ((1, 0), 1))
    >>> as_product("abcd,abed->abce"), as_product("ab,bc->ca")
    (None, None)
    """
    factors, _, result = equation.replace(" ", "").replace("...", "*").partition("->")
    if factors.count(",") != 1 or not result:
        return None
    rows, weight = factors.split(",")
    summed = [axis for axis in rows if axis in weight and axis not in result]
    free = [axis for axis in result if axis in weight]
    if len(set(rows)) < len(rows) or len(set(weight)) < len(weight) or set(summed) | set(free) != set(weight):
        return None
    kept = rows[: len(rows) - len(summed)]
    is_plain = rows == kept + "".join(summed) and result == kept + "".join(free)
    if not is_plain or not summed or not free or "*" in weight:
        return None
    return tuple(weight.index(axis) for axis in [*summed, *free]), len(summed)
