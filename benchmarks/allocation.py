"""How near mixed widths can come to more bits everywhere, whatever ranks the layers.

``python -m benchmarks.allocation``: the widths of 3.5 bits on average are chosen for the default
model by two estimates of each layer's harm and out of several sets of widths; everything is rounded
accordingly and its KL divergence from the unquantized model measured. The estimates are what stage
``sensitivity`` measures, and a second-order one: with F the Fisher information of the model's own
predictions, KL divergence is about 1/2 sum_i F_ii d_i^2 for independent rounding errors d
(HAWQ, arXiv 1911.03852; SqueezeLLM, arXiv 2306.07629). That takes one backward pass a window for
all layers and widths together. A few minutes once the store has the sensitivities.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner import run
from runner.config.schema.group_size import Granularity, GroupSize
from runner.methods.mixed_precision.layer_groups import Unit

G64 = GroupSize(Granularity.group, 64)

_AVERAGE_BITS = 3.5
_WIDTHS = (3, 4, 5, 6)
_SETS = ((3, 4), (3, 4, 6), (3, 4, 5, 6))
_TOKENS, _FISHER_WINDOWS, _EVAL_WINDOWS = 256, 24, 8

Harms = dict[tuple[str, int], float]
"""KL divergence in nats by a unit's name and its width."""


def measure() -> str:
    """A line for each choice of widths."""
    import torch
    from transformers import AutoModelForCausalLM

    from runner.data.texts.windows import leading_windows

    arguments = ["method=none", "stages=[sensitivity,eval]", "sensitivity=fused", "tracker=none"]
    arguments += ["sensitivity.bits=[3,4,6]", "sensitivity.group_sizes=[g64]", "eval=quick"]
    arguments += ["sensitivity.sym=false", "sensitivity.context_length=128"]
    result = run([*arguments, "sensitivity.windows=2"])
    found = result.sensitivity
    assert found is not None, result.reason
    objects = Path(result.record.config["store"]["root"]).expanduser() / "objects"
    directory = newest(objects / "model", "package:") / "model"
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    texts = [result.record.config[stage]["text"]["name"] for stage in ("sensitivity", "eval")]
    windows = [
        leading_windows(newest(objects / "text", f'{name}"'), directory, _TOKENS, count, False)
        for name, count in zip(texts, (_FISHER_WINDOWS, _EVAL_WINDOWS), strict=True)
    ]
    units = [unit for unit in found.units if unit.block is not None]
    measured = {
        (row.unit, bits): row.kl_divergence.estimate
        for row in found.rows
        for bits in _WIDTHS
        if row.rounding.startswith(f"w{bits}a16-")
    }
    subject = _Subject(model, units, windows[1])
    fisher = _fisher(subject, windows[0])
    lines = [
        f"{bits} bits everywhere: KL divergence {subject.divergence(_all(units, bits)):.3f} nats; "
        f"the Fisher estimates sum to {sum(fisher[unit.name, bits] for unit in units):.3f}"
        for bits in (3, 4)
    ]
    for label, harms in (("measured", measured), ("Fisher", fisher)):
        for widths in _SETS:
            if all((units[0].name, width) in harms for width in widths):
                chosen = _choose(units, harms, widths)
                lines.append(
                    f"{_AVERAGE_BITS} bits of {widths} by {label} harms: "
                    f"{subject.divergence(chosen):.3f} nats"
                )
    return "\n".join(lines)


class _Subject:
    """A model whose units are rounded all at once, and what it predicted before."""

    def __init__(self, model: Any, units: list[Unit], windows: list[list[int]]) -> None:
        self.model, self.units, self._windows = model, units, windows
        modules = dict(model.named_modules())
        self.layers = {name: modules[name] for unit in units for name in unit.layers}
        self.original = {name: one.weight.data for name, one in self.layers.items()}
        self._reference = self._log_probabilities()

    def rounded(self, layer: str, bits: int) -> Any:
        import torch

        from runner.methods.mixed_precision.rounding import Rounding, rounded

        return rounded(
            self.original[layer],
            Rounding.integers(bits, G64, False),
            torch.bfloat16,
        ).float()

    def divergence(self, widths: dict[str, int]) -> float:
        """Mean over tokens, in nats; ``widths`` by the units' names."""
        for unit in self.units:
            for layer in unit.layers:
                self.layers[layer].weight.data = self.rounded(layer, widths[unit.name])
        pairs = zip(self._reference, self._log_probabilities(), strict=True)
        means = [float((p.exp() * (p - q)).sum(-1).mean()) for p, q in pairs]
        for layer, weight in self.original.items():
            self.layers[layer].weight.data = weight
        return sum(means) / len(means)

    def _log_probabilities(self) -> list[Any]:
        import torch

        with torch.inference_mode():
            logits = (self.model(torch.tensor([one])).logits[0, :-1] for one in self._windows)
            return [torch.log_softmax(one.float(), -1) for one in logits]


def _fisher(subject: _Subject, windows: list[list[int]]) -> Harms:
    """Second-order estimates, with tokens drawn from the model's own predictions."""
    import torch

    subject.model.requires_grad_(False)
    for module in subject.layers.values():
        module.weight.requires_grad_(True)
    errors = {
        (layer, bits): (subject.rounded(layer, bits) - weight) ** 2
        for layer, weight in subject.original.items()
        for bits in _WIDTHS
    }
    harms: Harms = dict.fromkeys(((u.name, bits) for u in subject.units for bits in _WIDTHS), 0.0)
    generator = torch.Generator().manual_seed(0)
    for window in windows:
        logits = subject.model(torch.tensor([window])).logits[0, :-1].float()
        drawn = torch.multinomial(logits.detach().softmax(-1), 1, generator=generator)[:, 0]
        subject.model.zero_grad()
        loss: Any = torch.nn.functional.cross_entropy(logits, drawn, reduction="sum")
        loss.backward()
        for unit in subject.units:
            for layer in unit.layers:
                squares = subject.layers[layer].weight.grad ** 2
                for bits in _WIDTHS:
                    harm = float((squares * errors[layer, bits]).sum()) / (2 * len(drawn))
                    harms[unit.name, bits] += harm / len(windows)
    subject.model.requires_grad_(False)
    return harms


def _choose(units: list[Unit], harms: Harms, widths: Sequence[int]) -> dict[str, int]:
    from runner.methods.mixed_precision.knapsack import choose

    options = [[(unit.weights * bits, harms[unit.name, bits]) for bits in widths] for unit in units]
    chosen = choose(options, int(_AVERAGE_BITS * sum(unit.weights for unit in units)))
    return {unit.name: widths[index] for unit, index in zip(units, chosen, strict=True)}


def _all(units: list[Unit], bits: int) -> dict[str, int]:
    return {unit.name: bits for unit in units}


def newest(folder: Path, mark: str) -> Path:
    """The store's newest result whose seal names this."""
    seals = sorted(folder.glob("*/seal.json"), key=lambda path: path.stat().st_mtime)
    return [path.parent for path in seals if f'"{mark}' in path.read_text("utf-8")][-1]


if __name__ == "__main__":
    print(measure())
