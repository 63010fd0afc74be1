"""The speed by which rows are compared."""

import math
from collections.abc import Callable, Iterator

from runner.pipeline.stages.bench import STAGE as BENCH
from runner.reporting.rows import Row
from runner.reporting.timing import FIRST_TOKEN, against_unquantized, samples
from runner.store.records import BASELINE, BASELINE_AGAIN, RECIPE, RunRecord


def shown_speed(rows: list[Row]) -> Callable[[Row], float | None]:
    """Decode tokens/s of a row among ``rows``, without what was not shown.

    The unquantized model's, times a recipe's ratio to it: that ratio was measured in turns, while
    speeds of two recipes come from different minutes. A ratio that is not told from 1 counts as 1.
    Of those above it, and of those below, the fastest leads; what is not shown to be slower than it
    counts as that fast, of the others again the fastest leads, and so on. So neither a star nor a
    recommendation is luck. Where nothing is known of the unquantized model a row's own speed
    counts.
    """
    dense = {row.engine: row.decode_tokens_per_second for row in rows if row.is_baseline}
    counted: dict[int, float] = {}
    for engine, base in dense.items():
        comparable = [row for row in rows if row.engine == engine and _is_told(row)]
        above = [row for row in comparable if (row.decode_ratio or 0.0) > 1]
        for group in (above, [row for row in comparable if not (row.decode_ratio or 0.0) > 1]):
            for row, ratio in _led(group):
                counted[id(row)] = (base or 0.0) * ratio

    def of(row: Row) -> float | None:
        own, base = row.decode_tokens_per_second, dense.get(row.engine)
        if own is None or base is None or row.is_baseline:
            return own
        return base if row.decode_within_noise else counted.get(id(row), own)

    return of


def _is_told(row: Row) -> bool:
    apart = row.decode_within_noise is False and row.decode_ratio is not None
    return apart and not row.is_baseline and row.decode_tokens_per_second is not None


def _led(rows: list[Row]) -> Iterator[tuple[Row, float]]:
    """Each row with the ratio that counts as its own."""
    left = [(row, log_ratio(row)) for row in rows]
    left.sort(key=lambda pair: -(pair[0].decode_ratio or 0.0))
    while left:
        leader, its = left[0]
        yield leader, leader.decode_ratio or 0.0
        slower = []
        for row, mine in left[1:]:
            # By the ratios themselves where they have no intervals.
            is_lower = ratio_is_lower(mine, its)
            if (
                (row.decode_ratio or 0.0) < (leader.decode_ratio or 0.0)
                if is_lower is None
                else is_lower
            ):
                slower.append((row, mine))
            else:
                yield row, leader.decode_ratio or 0.0
        left = slower


def shown_first_token(record: RunRecord, row: Row) -> float | None:
    """Time to the first token of a run's row, as ``shown_speed`` has its decode speed."""
    bench, baseline, again = (
        record.result(BENCH, subject) for subject in (RECIPE, BASELINE, BASELINE_AGAIN)
    )
    own, size = row.time_to_first_token_seconds, row.batch_size
    if bench is None or size is None:
        return own
    measured = against_unquantized(bench, baseline, again, size, FIRST_TOKEN)
    dense = samples(baseline, size, FIRST_TOKEN)
    if measured is None or not dense:
        return own
    base = sum(dense) / len(dense)
    return base if measured.comparison.within_noise else base * measured.comparison.ratio.estimate


def shown_slower(one: Row, other: Row) -> bool | None:
    """Whether a row was shown to be slower than another: no reason to doubt where it was not.

    By the ratios of both to the unquantized model's speed. They come from different repetitions, so
    the logarithms' half-widths add up as those of independent errors do.

    Returns:
        ``None`` where nothing can be shown: on different engines, or without intervals.
    """
    if one.engine != other.engine:
        return None
    return ratio_is_lower(log_ratio(one), log_ratio(other))


def ratio_is_lower(
    one: tuple[float, float] | None, other: tuple[float, float] | None
) -> bool | None:
    """Whether one of two ratios is shown to be lower; ``None`` where one has no interval."""
    if one is None or other is None:
        return None
    return other[0] - one[0] > math.hypot(one[1], other[1])


def log_ratio(row: Row) -> tuple[float, float] | None:
    """Logarithm of the ratio to the unquantized model, and half of its interval."""
    if row.is_baseline:
        return 0.0, 0.0
    low, high = row.decode_ratio_low, row.decode_ratio_high
    if not row.decode_ratio or not low or not high:
        return None
    return math.log(row.decode_ratio), math.log(high / low) / 2
