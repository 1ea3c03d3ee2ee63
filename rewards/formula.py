"""A formula over named scores, such as `0.8 * right + 0.2 * min(short, 1)`: arithmetic, and nothing that runs code."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any

from rewards.errors import RewardError

LONGEST = 2_000
"""Characters of a formula."""
_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,  # of floats: it overflows, and does not grow
}
_UNARY: dict[type[ast.unaryop], Callable[[float], float]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}


class Formula:
    """A formula that was read once and is worked out for many scores."""

    def __init__(self, text: str, names: Collection[str]) -> None:
        """Read it.

        Args:
            text: the formula: numbers, `+ - * / **`, brackets, the functions above, and names.
            names: the names that it may use.

        Raises:
            RewardError: it is none, or uses a name that is not there.
        """
        if len(text) > LONGEST:
            raise RewardError(f"calculate_output has {len(text)} characters: at most {LONGEST} are read")
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
            _check(self._tree, names)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            if isinstance(error, RewardError):
                raise
            raise RewardError(f"calculate_output is no formula: {str(error)[:100]}") from None

    def value(self, scores: Mapping[str, float]) -> float:
        """What it gives for these scores.

        Raises:
            RewardError: no number comes out, such as after a division by 0.
        """
        try:
            found = float(_value(self._tree, scores))
        except (ArithmeticError, ValueError, TypeError) as error:
            raise RewardError(f"calculate_output gives no number: {error}") from None
        if not math.isfinite(found):
            raise RewardError("calculate_output gives no finite number")
        return found


def _check(node: ast.expr, names: Collection[str]) -> None:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return
        case ast.Name(id=name):
            if name not in names:
                raise RewardError(f"calculate_output names {name[:60]!r}, and the graders are {', '.join(names)}")
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            _check(left, names)
            _check(right, names)
        case ast.UnaryOp(op=unary, operand=operand) if type(unary) in _UNARY:
            _check(operand, names)
        case ast.Call(func=ast.Name(id=function), args=[_, *_] as arguments, keywords=[]) if function in _FUNCTIONS:
            for argument in arguments:
                _check(argument, names)
        case _:
            raise RewardError(
                f"calculate_output may hold numbers, names, + - * / ** and {', '.join(_FUNCTIONS)}, not "
                f"{ast.unparse(node)[:60]!r}"
            )


def _value(node: Any, scores: Mapping[str, float]) -> float:
    match node:
        case ast.Constant():
            return float(str(node.value))
        case ast.Name():
            return scores[node.id]
        case ast.BinOp():
            found = _BINARY[type(node.op)](_value(node.left, scores), _value(node.right, scores))
            if isinstance(found, complex):
                raise ValueError("a root of a negative number")
            return found
        case ast.UnaryOp():
            return _UNARY[type(node.op)](_value(node.operand, scores))
    return float(_FUNCTIONS[node.func.id](*(_value(argument, scores) for argument in node.args)))
