"""What is known of how far such predictions are off, for the kinds that a plan has."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runner.planning.option import Option, Range
from runner.planning.regimes import by_words


@dataclass(frozen=True)
class StatedError:
    """Of one kind of figure in one regime."""

    figure: str
    """``ITL`` or ``TTFT``."""
    regime: str
    """In words."""
    median_error: float | None
    """Half of such predictions were nearer to what was measured."""
    low: float
    high: float
    """Factors on the expected figure between which four of five measurements lie."""
    points: int
    """Measurements that say so; 0: those it was calibrated by here."""


def stated_errors(options: Sequence[Option]) -> list[StatedError]:
    """One for each kind of prediction that occurs."""
    return list(dict.fromkeys(_all(options)))


def said(error: StatedError) -> str:
    """An error in words, after what introduces the list."""
    half = "" if error.median_error is None else f"half within {error.median_error:.0%}, "
    source = f"{error.points} measurements" if error.points else "fitted here"
    return (
        f"{error.figure}, {error.regime}: {half}4 of 5 within {error.low - 1:+.0%} to "
        f"{error.high - 1:+.0%} ({source})"
    )


def _all(options: Sequence[Option]) -> Iterator[StatedError]:
    for option in options:
        yield from _one("ITL", option.regime, option.time_per_output_token_seconds, option)
        yield from _one("TTFT", option.first_token_regime, option.time_to_first_token_seconds)


def _one(
    figure: str, regime: str, value: Range | None, option: Option | None = None
) -> Iterator[StatedError]:
    if value is None or not value.expected:
        return
    known = by_words().get(regime)
    if known is not None:
        yield StatedError(figure, regime, known.median_error, known.low, known.high, known.points)
        return
    median = option.median_error if option is not None else None
    low, high = (round(end / value.expected, 2) for end in (value.low, value.high))
    yield StatedError(figure, regime, median, low, high, 0)
