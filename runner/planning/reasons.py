"""Why options do not serve: those that fail alike in one line."""

import re
from collections.abc import Sequence

from runner.planning.option import Feasibility, Miss, Option
from runner.planning.phrases import OBJECTIVES, recipes_on, seconds, times, where

_FEW = 5
"""Devices of which each is worth lines of its own."""


def reasons(options: Sequence[Option]) -> list[str]:
    """Why options do not serve, the nearest misses first; ``options`` are ranked."""
    groups: dict[tuple[object, ...], list[Option]] = {}
    apart = len({option.device for option in options}) <= _FEW
    for option in options:
        if option.verdict is not Feasibility.meets:
            groups.setdefault(_alike(option, apart), []).append(option)
    return [_said(group) for group in groups.values()]


def cautions(options: Sequence[Option]) -> list[str]:
    """What is to be known of options, each warning once with the options that it is about."""
    about: dict[str, list[str]] = {}
    for option in options:
        for warning in option.warnings:
            if warning in option.reason:
                continue
            # "2 devices take turns" and "4 devices take turns" need one line.
            alike = re.sub(r"\d+", "", warning)
            named = f"{option.recipe} on {where(option)}"
            about.setdefault(alike, [warning]).append(named)
    return [
        f"{first}{f' and {len(others)} more' if others else ''}: {warning}"
        for warning, first, *others in about.values()
    ]


def _alike(option: Option, apart: bool) -> tuple[object, ...]:
    """What options have in common that one line is about.

    Args:
        option: One of them.
        apart: Whether devices are few, so that each is worth a line of its own.
    """
    device = option.device if apart else ""
    by_device = (Feasibility.too_slow, Feasibility.does_not_fit)
    if option.verdict in by_device or not option.engine_known:
        return option.verdict, device
    return option.verdict, option.reason


def _said(group: Sequence[Option]) -> str:
    subject, nearest = recipes_on(group), group[0]
    best = ""
    if nearest.verdict is Feasibility.does_not_fit:
        nearest = max(group, key=lambda option: option.kv_capacity_bytes / option.tensor_parallel)
    if len(group) > 1:
        best = f"the nearest, {nearest.recipe} on {where(nearest)}: "
    if nearest.verdict is Feasibility.too_slow:
        return f"{subject}: too slow: {best}{'; '.join(map(_missed, nearest.misses))}"
    if nearest.verdict is Feasibility.does_not_fit:
        return f"{subject}: does not fit: {best}{_lack(nearest)}"
    return f"{subject}: {nearest.reason}"


def _missed(miss: Miss) -> str:
    hope = "; it may still pass, measure it" if miss.may_pass else ""
    return (
        f"{seconds(miss.seconds.expected)} {OBJECTIVES[miss.what]}, "
        f"{seconds(miss.at_most)} at most ({times(miss.over)}){hope}"
    )


def _lack(option: Option) -> str:
    """Why one does not fit, without the small parts that plan.json tells."""
    before, _, usable = option.reason.partition(" per device, ")
    parts = dict(option.memory_bytes_per_device)
    if not usable or "weights" not in parts:
        return before.removeprefix("does not fit: ")
    weights = parts.pop("weights")
    besides = f" and {sum(parts.values()) / 1e9:.1f} GB besides" if parts else ""
    return f"{weights / 1e9:.1f} GB of weights{besides} per device, {usable}"
