"""Whether the sum of units' divergences, each rounded alone, predicts that of all rounded together.

``python -m benchmarks.additivity smollm2_135m``: draws assignments of widths at equal average bits,
measures the whole of each, and compares it with the sum that ``bits=auto`` minimizes: correlations,
slope and ratio with bootstrap intervals over the assignments. Then it measures each unit's next
narrower and next wider width beside the others' rounding, chooses again by these differences
(``--passes``), and scores each choice on another text. What is measured is kept (``--kept``), so
that a run that was stopped goes on. Two hours a model on two busy cores.

8 bits alone are not measured: rounding to nearest costs 4**-4 of what it costs at 4 bits, which is
below what float32 resolves.
"""

import argparse
import contextlib
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.additivity_draws import drawn, nearly_chosen, solve, width_factors
from benchmarks.additivity_report import report
from benchmarks.allocation import newest
from benchmarks.kept import Kept
from runner import run
from runner.config.schema.group_size import Granularity, GroupSize
from runner.methods.mixed_precision.layer_groups import Unit

if TYPE_CHECKING:
    from benchmarks.together import Together

WIDTHS = (2, 3, 4, 8)
BUDGETS = (3.0, 3.5, 4.5)
G64 = GroupSize(Granularity.group, 64)

_TOKENS, _WINDOWS = 96, 4
_TOKENS_HELD_OUT, _HELD_OUT = 128, 16

Choice = dict[str, int]
"""Widths by the units' names."""


class Subject:
    """A model and a text; roundings of its layers are kept in memory."""

    def __init__(self, directory: Path, windows: list[list[int]], kept: Kept, text: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        from runner.config.schema.sensitivity import LayerGranularity
        from runner.evaluation.sensitivity.probe import Probe

        model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
        grain = LayerGranularity.fused
        self._probe = Probe(model, windows, grain, torch.bfloat16)
        self._kept, self._text = kept, text
        self._layers: dict[str, Any] = dict(model.named_modules())
        self._rounded: dict[tuple[str, str], Any] = {}
        setattr(self._probe, "rounded", self._swapped)  # noqa: B010 (mypy refuses the assignment)
        self.units = self._probe.inner_units

    def alone(self, unit: Unit, width: int) -> list[float]:
        """KL divergence of each window with one unit rounded, in nats a token."""
        if width == 8:
            return [one / 4**4 for one in self.alone(unit, 4)]
        key = f"{self._text} {unit.name} {width}"
        found: list[float] = self._kept.value("alone", key, lambda: self._score(unit, width))
        return found

    def whole(self, choice: Choice) -> list[float]:
        """KL divergence of each window with all units rounded."""
        found: list[float] = self._kept.value(
            f"whole {self._text}", self._key(choice), lambda: self._together(choice)
        )
        return found

    def beside(self, choice: Choice, changes: list[tuple[str, int]]) -> list[list[float]]:
        """Of the whole with each change by itself, each window's."""
        from benchmarks.together import Together

        key = self._key(choice)
        keys = [f"{key} {name} {width}" for name, width in changes]
        if any(one not in self._kept.values for one in keys):
            units = {unit.name: unit for unit in self.units}
            with Together(self._probe, _roundings(choice)) as together:
                for one, (name, width) in zip(keys, changes, strict=True):
                    changed = functools.partial(self._beside, together, units[name], width)
                    self._kept.value("beside", one, changed)
        return [self._kept.values[one] for one in keys]

    def _key(self, choice: Choice) -> str:
        return f"{self._text} whole {''.join(str(choice[unit.name]) for unit in self.units)}"

    def _score(self, unit: Unit, width: int) -> list[float]:
        return self._probe.score(unit, _rounding(width)).kl_divergence

    def _beside(self, together: "Together", unit: Unit, width: int) -> list[float]:
        return together.score_with(unit, _rounding(width)).kl_divergence

    def _together(self, choice: Choice) -> list[float]:
        return self._probe.score_together(_roundings(choice)).kl_divergence

    @contextlib.contextmanager
    def _swapped(self, unit: Unit, rounding: Any) -> Iterator[None]:
        """What ``Probe.rounded`` does, with each rounding computed once."""
        import torch

        from runner.methods.mixed_precision.rounding import rounded

        originals = {name: self._layers[name].weight for name in unit.layers}
        try:
            for name, weight in originals.items():
                key = (name, rounding.label)
                if key not in self._rounded:
                    found = rounded(weight.data, rounding, torch.bfloat16)
                    self._rounded[key] = torch.nn.Parameter(found, requires_grad=False)
                self._layers[name].weight = self._rounded[key]
            yield
        finally:
            for name, weight in originals.items():
                self._layers[name].weight = weight


def mean(values: list[float]) -> float:
    """Of windows."""
    return sum(values) / len(values)


def measure(
    model: str, draws: int, budgets: list[float], counts: int, kept: Kept
) -> dict[str, Any]:
    """All figures of one model."""
    directory, texts = _ready(model)
    subject = Subject(directory, texts["chosen on"], kept, "chosen on")
    other = Subject(directory, texts["held out"], kept, "held out")
    harms = {
        (unit.name, width): mean(subject.alone(unit, width))
        for unit in subject.units
        for width in WIDTHS
    }
    found: dict[str, Any] = {"model": model, "units": len(subject.units), "budgets": {}}
    every: list[Choice] = []
    for budget in budgets:
        chosen = solve(subject.units, harms, WIDTHS, budget)
        families = {
            "random": drawn(subject.units, WIDTHS, budget, draws),
            "random, from 3 bits": drawn(subject.units, WIDTHS[1:], budget, draws)
            if budget > WIDTHS[1]
            else [],
            "near the choice": nearly_chosen(subject.units, harms, WIDTHS, budget, draws),
        }
        pairs = {label: _pairs(subject, harms, choices) for label, choices in families.items()}
        every += [choice for choices in families.values() for choice in choices]
        passes = list(_passes(subject, harms, chosen, budget, counts))
        held_out = [other.whole(one["choice"]) for one in passes]
        found["budgets"][str(budget)] = {"pairs": pairs, "passes": passes, "held_out": held_out}
    wholes = [mean(subject.whole(choice)) for choice in every]
    factors = width_factors(harms, WIDTHS, every, wholes)
    enlarged = {(name, width): harm * factors[width] for (name, width), harm in harms.items()}
    for budget in budgets:
        measured = found["budgets"][str(budget)]
        chosen = solve(subject.units, enlarged, WIDTHS, budget)
        if chosen != measured["passes"][0]["choice"]:
            expected = sum(enlarged[pair] for pair in chosen.items())
            whole = mean(subject.whole(chosen))
            row = {"how": "by harms times factors", "expected": expected, "whole": whole}
            measured["passes"].append({**row, "choice": chosen, "differences": []})
            measured["held_out"].append(other.whole(chosen))
    found["factors"] = factors
    for width in (3, 4):
        choice = {unit.name: width for unit in subject.units}
        found[f"all {width}"] = [mean(subject.whole(choice)), other.whole(choice)]
    found["seconds"] = {kind: sum(times) for kind, times in kept.values["seconds"].items()}
    found["times"] = {kind: len(times) for kind, times in kept.values["seconds"].items()}
    return found


def _passes(
    subject: Subject, harms: dict[tuple[str, int], float], chosen: Choice, budget: float, count: int
) -> Iterator[dict[str, Any]]:
    """What each pass chose, what it expected of it, and what the whole then cost."""
    expected = sum(harms[name, width] for name, width in chosen.items())
    units = {unit.name: unit for unit in subject.units}
    for number in range(1, count + 1):
        changes = (
            [
                (unit.name, width)
                for unit in subject.units
                for width in neighbours(chosen[unit.name])
            ]
            if number < count
            else []
        )
        windows, changed = subject.whole(chosen), subject.beside(chosen, changes)
        whole = mean(windows)
        how = "by harms alone" if number == 1 else f"by harms beside choice {number - 1}"
        yield {
            "how": how,
            "choice": chosen,
            "expected": expected,
            "whole": whole,
            "differences": [
                (
                    width > chosen[name],
                    _minus(
                        subject.alone(units[name], width), subject.alone(units[name], chosen[name])
                    ),
                    _minus(found, windows),
                )
                for (name, width), found in zip(changes, changed, strict=True)
            ],
        }
        beside = dict.fromkeys(chosen.items(), 0.0)
        beside |= {change: mean(kl) - whole for change, kl in zip(changes, changed, strict=True)}
        if changes:
            chosen = solve(subject.units, beside, WIDTHS, budget)
            expected = whole + sum(beside[name, width] for name, width in chosen.items())


def _minus(one: list[float], other: list[float]) -> list[float]:
    return [a - b for a, b in zip(one, other, strict=True)]


def neighbours(width: int) -> list[int]:
    """The next narrower and the next wider."""
    place = WIDTHS.index(width)
    return [WIDTHS[one] for one in (place - 1, place + 1) if 0 <= one < len(WIDTHS)]


def _pairs(
    subject: Subject, harms: dict[tuple[str, int], float], choices: list[Choice]
) -> list[tuple[float, float]]:
    """Sum and measured whole of each assignment."""
    return [
        (sum(harms[pair] for pair in choice.items()), mean(subject.whole(choice)))
        for choice in choices
    ]


def _ready(model: str) -> tuple[Path, dict[str, list[list[int]]]]:
    """The model's directory, and windows of the texts, made by the runner."""
    from runner.config.schema.eval import PerplexityProtocol
    from runner.data.texts.protocols import Excerpt, protocol_text

    arguments = [f"model={model}", "method=none", "stages=[sensitivity,eval]", "sensitivity=block"]
    arguments += ["sensitivity.windows=2", "sensitivity.context_length=16", "eval=quick"]
    result = run([*arguments, "tracker=none"])
    config = result.record.config
    objects = Path(config["store"]["root"]).expanduser() / "objects"
    hidden = config["model"]["architecture"]["hidden"]
    directory = next(
        path.parent
        for path in objects.glob("model/*/model/config.json")
        if json.loads(path.read_text("utf-8"))["hidden_size"] == hidden
    )
    sizes = {"sensitivity": (_TOKENS, _WINDOWS), "eval": (_TOKENS_HELD_OUT, _HELD_OUT)}
    texts = []
    for stage, size in sizes.items():
        text = newest(objects / "text", f'{config[stage]["text"]["name"]}"')
        excerpt = Excerpt(text, directory, *size, False)
        cut = protocol_text(PerplexityProtocol.spread, excerpt)
        texts.append([window.tokens for window in cut.windows])
    return directory, dict(zip(("chosen on", "held out"), texts, strict=True))


def _roundings(choice: Choice) -> dict[str, Any]:
    return {name: _rounding(width) for name, width in choice.items()}


def _rounding(width: int) -> Any:
    from runner.methods.mixed_precision.rounding import Rounding

    return Rounding.integers(width, G64, False)


def main() -> None:
    """Measure what the command line names, and print the tables of the page."""
    parser = argparse.ArgumentParser("python -m benchmarks.additivity")
    parser.add_argument("model", help="an option of the group model")
    parser.add_argument("--draws", type=int, default=20, help="assignments of each kind and budget")
    parser.add_argument("--budgets", type=float, nargs="+", default=list(BUDGETS))
    parser.add_argument("--passes", type=int, default=3, help="choices to make, each from the last")
    parser.add_argument("--kept", type=Path, help="file of measurements, read and added to")
    given = parser.parse_args()
    kept = Kept(given.kept or Path(f"additivity-{given.model}.json"))
    found = measure(given.model, given.draws, given.budgets, given.passes, kept)
    print(report(found))


if __name__ == "__main__":
    main()
