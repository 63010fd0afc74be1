"""``python -m benchmarks.predictions [POINTS.csv ...]``: predictions against measurements."""

import argparse
import sys
from pathlib import Path

from benchmarks.peers import read_answers
from benchmarks.predictions import constants, report
from benchmarks.predictions.held import hold
from benchmarks.predictions.points import MORE, SERVING, read_points
from runner.errors import UsageError


def main() -> int:
    """Print the table; 1 where a regime is worse than is stated."""
    parser = argparse.ArgumentParser("python -m benchmarks.predictions", description=__doc__)
    parser.add_argument(
        "points",
        nargs="*",
        type=Path,
        metavar="POINTS.csv",
        help="measurements, in the columns of benchmarks/points/serving.csv, which is the default",
    )
    parser.add_argument(
        "--rows",
        type=Path,
        metavar="OUT.csv",
        help="write each point with low, expected and high, or why nothing is predicted",
    )
    parser.add_argument(
        "--fit",
        action="store_true",
        help="fit constants, ranges and stated errors to the measurements of the repository",
    )
    asked = parser.parse_args()
    if asked.fit:
        _fit()
    try:
        points, left = read_points(asked.points or [SERVING])
        others, _ = read_points([] if asked.points else [MORE])
        if asked.points and SERVING not in asked.points:
            others, _ = read_points([SERVING, MORE])
    except UsageError as error:
        parser.error(str(error))
    held = hold(points, others)
    print("\n".join(report.table(held, read_answers())))
    reasons: dict[str, int] = {}
    for one in left:
        reasons[one.reason] = reasons.get(one.reason, 0) + 1
    if reasons:
        print(f"\n{len(left)} rows are not predicted:")
    for reason, number in sorted(reasons.items(), key=lambda pair: -pair[1]):
        print(f"  {number}: {reason}")
    if asked.rows:
        report.write_rows(asked.rows, held, left)
    failed = [] if asked.points else list(report.worse(held))
    for line in failed:
        print(f"worse than stated: {line}", file=sys.stderr)
    return 1 if failed else 0


def _fit() -> None:
    """Everything that is fitted, in the order in which it hangs together."""
    from runner.planning import regimes
    from runner.planning.kernels import constants as shipped

    points, _ = read_points([SERVING, MORE])
    constants.write_constants(points)
    shipped.forget()
    serving, _ = read_points([SERVING])
    more, _ = read_points([MORE])
    constants.write_ranges(hold(serving, more), hold(more, serving))
    regimes.regimes.cache_clear()
    constants.write_stated(hold(serving, more))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # of ``| head``
        sys.stderr.close()
