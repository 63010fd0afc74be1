"""Tables of what ``benchmarks.additivity`` measured."""

from typing import Any

import numpy as np

_RESAMPLES = 2000

Array = np.ndarray[Any, np.dtype[np.float64]]


def report(found: dict[str, Any]) -> str:
    """Sums against wholes by budget and kind of assignment, then what each pass chose."""
    lines = [
        f"{found['model']}, {found['units']} units",
        "",
        "| bits | assignments | number | Pearson | Spearman | slope | whole / sum |",
        "|--:|---|--:|--:|--:|--:|--:|",
    ]
    for budget, measured in found["budgets"].items():
        for label, pairs in measured["pairs"].items():
            if pairs:
                cells = " | ".join(_fit(np.array(pairs, np.float64)))
                lines.append(f"| {budget} | {label} | {len(pairs)} | {cells} |")
    lines += [
        "",
        "| bits | chosen | sum | whole | held out | against the first choice |",
        "|--:|---|--:|--:|--:|--:|",
    ]
    for budget, measured in found["budgets"].items():
        for place, (one, held_out) in enumerate(
            zip(measured["passes"], measured["held_out"], strict=True)
        ):
            paired = "" if not place else _paired(held_out, measured["held_out"][0])
            lines.append(
                f"| {budget} | {one['how']} | {one['expected']:.3f} | {one['whole']:.3f} | "
                f"{np.mean(held_out):.3f} | {paired} |"
            )
    for width in (3, 4):
        whole, held_out = found[f"all {width}"]
        lines.append(f"| {width} | all alike | | {whole:.3f} | {np.mean(held_out):.3f} | |")
    factors = ", ".join(f"{width} bits {factor:.2f}" for width, factor in found["factors"].items())
    lines += ["", _power_law(found), f"factors: {factors}", *_agreement(found)]
    spent = (
        f"{kind}: {found['times'][kind]} in {seconds:.0f} s of processor time"
        for kind, seconds in found["seconds"].items()
    )
    return "\n".join([*lines, "", "; ".join(spent)])


def _power_law(found: dict[str, Any]) -> str:
    """Of all assignments of all budgets."""
    pairs = np.log(
        [
            pair
            for measured in found["budgets"].values()
            for one in measured["pairs"].values()
            for pair in one
        ]
    )
    slope, start = np.polyfit(pairs[:, 0], pairs[:, 1], 1)
    return f"{len(pairs)} assignments: log whole = {start:.2f} + {slope:.2f} log sum"


def _agreement(found: dict[str, Any]) -> list[str]:
    """Spearman's correlation of changes' differences between the two halves of the windows."""
    from scipy.stats import spearmanr

    lines = []
    for budget, measured in found["budgets"].items():
        for wider, direction in ((True, "wider"), (False, "narrower")):
            rows = [
                (alone, beside)
                for one in measured["passes"]
                for is_wider, alone, beside in one["differences"]
                if is_wider is wider
            ]
            if rows:
                halves = np.array(rows).reshape(len(rows), 2, 2, -1).mean(-1)
                alone, beside = (
                    float(spearmanr(halves[:, kind, 0], halves[:, kind, 1])[0]) for kind in (0, 1)
                )
                lines.append(
                    f"{budget} bits, next {direction}: halves of the windows rank alike by "
                    f"{alone:.2f} alone, {beside:.2f} beside the others"
                )
    return lines


def _fit(pairs: Array) -> list[str]:
    """Each with its 95% interval, by resampling assignments."""
    from scipy.stats import spearmanr

    def values(chosen: Array) -> list[float]:
        sums, wholes = chosen[:, 0], chosen[:, 1]
        pearson = float(np.corrcoef(sums, wholes)[0, 1])
        slope = pearson * float(wholes.std() / sums.std())
        ratio = float(np.exp(np.log(wholes / sums).mean()))
        return [pearson, float(spearmanr(sums, wholes)[0]), slope, ratio]

    generator = np.random.default_rng(0)
    resampled = [
        values(pairs[generator.integers(len(pairs), size=len(pairs))]) for _ in range(_RESAMPLES)
    ]
    low, high = np.nanpercentile(resampled, [2.5, 97.5], axis=0)
    return [
        f"{value:.2f} [{at_least:.2f}, {at_most:.2f}]"
        for value, at_least, at_most in zip(values(pairs), low, high, strict=True)
    ]


def _paired(one: list[float], other: list[float]) -> str:
    from runner.evaluation.metrics.statistics import mean_interval

    found = mean_interval(np.array(one) - np.array(other))
    return f"{found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
