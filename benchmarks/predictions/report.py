"""The table of errors, and what is worse than is stated."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.predictions.held import (
    LEAST_OF_A_GROUP,
    REGIMES,
    Held,
    groups_of,
    median,
    ninth,
)
from benchmarks.predictions.points import FOLDER, Left
from runner.util.yaml_files import load

STATED = FOLDER / "stated.yaml"
_HEAD = (
    f"{'regime':34}{'n':>6}{'median':>8}{'p90':>6}{'in range':>10}{'± half':>8}"
    f"{'left out':>10}{'p90':>6}{'aiconf.':>9}{'ours':>6}{'n':>6}"
)
_SLACK = 0.005
"""By which a figure may be above what is stated: it is rounded."""


def table(held: Sequence[Held], peers: Mapping[str, float]) -> Iterator[str]:
    """A line a regime that has points.

    Args:
        held: All points.
        peers: aiconfigurator's predictions by the rows' ids, in the rows' units.
    """
    yield _HEAD
    for name, belongs in REGIMES.items():
        mine = [one for one in held if belongs(one.point)]
        if mine:
            yield _line(name, mine, peers)
    far = sorted(
        (
            (median([one.error for one in members]), group, len(members))
            for group, members in groups_of(held).items()
            if len(members) >= LEAST_OF_A_GROUP
        ),
        reverse=True,
    )
    if far:
        yield f"\nfarthest groups of {LEAST_OF_A_GROUP} points or more (tpot_ms):"
    for error, group, number in far[:5]:
        yield f"  {error:6.1%}  {', '.join(group)} ({number})"


def _line(name: str, mine: Sequence[Held], peers: Mapping[str, float]) -> str:
    errors = [one.error for one in mine]
    within = sum(one.is_within for one in mine) / len(mine)
    half = median([one.half_width for one in mine])
    without = [one.error_without for one in mine if one.error_without is not None]
    line = (
        f"{name:34}{len(mine):6}{median(errors):8.1%}{ninth(errors):6.0%}{within:10.0%}{half:8.0%}"
    )
    line += f"{median(without):10.1%}{ninth(without):6.0%}" if without else f"{'-':>10}{'-':>6}"
    both = [one for one in mine if one.point.row.get("id") in peers]
    if not both:
        return f"{line}{'-':>9}{'-':>6}{'-':>6}"
    theirs = [abs(peers[one.point.row["id"]] / one.point.value - 1) for one in both]
    ours = median([one.error for one in both])
    return f"{line}{median(theirs):9.1%}{ours:6.1%}{len(both):6}"


def figures(held: Sequence[Held]) -> dict[str, dict[str, float]]:
    """What is stated of each regime, to be compared with ``stated.yaml``."""
    found = {}
    for name, belongs in REGIMES.items():
        mine = [one for one in held if belongs(one.point)]
        if mine:
            without = [one.error_without for one in mine if one.error_without is not None]
            found[name] = {
                "points": len(mine),
                "median_error": round(median([one.error for one in mine]), 3),
                "ninth_decile_error": round(ninth([one.error for one in mine]), 3),
                "in_range": round(sum(one.is_within for one in mine) / len(mine), 3),
                "half_width": round(median([one.half_width for one in mine]), 3),
            }
            if without:
                found[name]["median_error_left_out"] = round(median(without), 3)
    return found


def worse(held: Sequence[Held]) -> Iterator[str]:
    """Regimes whose error is larger than ``stated.yaml`` states."""
    stated: dict[str, dict[str, Any]] = load(STATED)
    for name, found in figures(held).items():
        for key in ("median_error", "ninth_decile_error", "median_error_left_out"):
            limit = stated.get(name, {}).get(key)
            if limit is not None and key in found and found[key] > limit + _SLACK:
                yield f"{name}: {key} is {found[key]:.1%}, {limit:.1%} is stated"


def write_rows(path: Path, held: Sequence[Held], left: Sequence[Left]) -> None:
    """Write each point with low, expected and high, or the reason why there is none."""
    rows = [*(one.point.row for one in held), *(one.row for one in left)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    extra = ["low", "expected", "high", "expected_left_out", "reason"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*columns, *extra], lineterminator="\n")
        writer.writeheader()
        for one in held:
            found = one.range
            writer.writerow(
                {
                    **one.point.row,
                    "low": f"{found.low:.6g}",
                    "expected": f"{found.expected:.6g}",
                    "high": f"{found.high:.6g}",
                    "expected_left_out": "" if one.without is None else f"{one.without:.6g}",
                }
            )
        for other in left:
            writer.writerow({**other.row, "reason": other.reason})
