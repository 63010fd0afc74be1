"""Predictions in words: ``24.1 ms [20.5, 27.7]``, ``7 recipes on 1 to 8 l4``."""

from collections.abc import Sequence

from runner.planning.option import Miss, Option, Range

OBJECTIVES = {"ITL": "per output token", "TTFT": "to the first token"}
"""What is asked for, by the names of the field."""
_NAMED = 3
"""Recipes that a line names."""


def seconds(value: float) -> str:
    """``1.03 s``, ``500 ms``, ``22.5 min``."""
    if value >= 300:
        return f"{value / 60:.3g} min" if value < 6e4 else f"{value / 3600:.3g} h"
    return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms"


def seconds_range(value: Range) -> str:
    """``24.1 ms [20.5, 27.7]``: expected, and the low and high of the prediction."""
    factor, unit = (1, "s") if value.expected >= 1 else (1e3, "ms")
    low, expected, high = (_digits(factor * one) for one in (value.low, value.expected, value.high))
    return f"{expected} {unit} [{low}, {high}]"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def count(value: float) -> str:
    """``950``, ``119k``, ``1.2M``."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            digits = 1 if value < 10 * size else 0
            return f"{value / size:.{digits}f}".removesuffix(".0") + unit
    return f"{value:.0f}"


def dollars(value: float) -> str:
    """``0.083``, ``1.29``, ``12.5``, ``1,964``."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def times(over: float) -> str:
    """``1.02x``, ``1.8x``, ``642x``."""
    return f"{over:.2f}x" if over < 1.1 else f"{over:.1f}x" if over < 10 else f"{over:.0f}x"


def where(option: Option) -> str:
    """``2x h100_sxm``."""
    return f"{option.tensor_parallel}x {option.device}"


def missed(miss: Miss) -> str:
    """An objective and by how much it is missed."""
    hope = "; may still pass, measure it" if miss.may_pass else ""
    over = f"{miss.over:.2f}x" if miss.over < 10 else times(miss.over)
    found = f"{seconds(miss.seconds.expected)} {OBJECTIVES[miss.what]}"
    return f"too slow by {over}: {found}, {seconds(miss.at_most)} at most{hope}"


def recipes_on(options: Sequence[Option]) -> str:
    """``bf16, w8a8 on 1 to 8 a10g``: what several options have in common."""
    recipes = [*dict.fromkeys(option.recipe for option in options)]
    named = ", ".join(recipes[:_NAMED])
    if len(recipes) > _NAMED:
        named += f" and {len(recipes) - _NAMED} more"
    return f"{named} on {_degrees(options)}"


def _degrees(options: Sequence[Option]) -> str:
    devices = [*dict.fromkeys(option.device for option in options)]
    degrees = sorted({option.tensor_parallel for option in options})
    few = f"{degrees[0]}x" if len(degrees) == 1 else f"{degrees[0]} to {degrees[-1]}"
    named = ", ".join(devices[:_NAMED])
    more = f" and {len(devices) - _NAMED} more" if len(devices) > _NAMED else ""
    return f"{few} {named}{more}"
