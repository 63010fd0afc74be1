"""Running a model from the rounded layer on against running all of it for every rounded layer."""

import json
import time
from pathlib import Path
from typing import Any

from runner import run
from runner.config.schema.group_size import Granularity, GroupSize

G64 = GroupSize(Granularity.group, 64)

_WINDOWS = 4
_TOKENS = 128
_EVERY = 5
"""One layer in so many is measured: all over the blocks, and not a multiple of the 7 in each."""


def measure() -> str:
    """Seconds of both ways for the same layers, text and rounding, and how their numbers differ."""
    import torch
    from transformers import AutoModelForCausalLM

    from runner.config.schema.sensitivity import LayerGranularity
    from runner.data.texts.windows import leading_windows
    from runner.evaluation.sensitivity.probe import Probe
    from runner.methods.mixed_precision.rounding import Rounding

    result = run(["method=none", "stages=[eval]", "eval=quick", "tracker=none"])
    objects = Path(result.record.config["store"]["root"]).expanduser() / "objects"
    hidden = result.record.config["model"]["architecture"]["hidden"]
    directory = next(
        path.parent
        for path in objects.glob("model/*/model/config.json")
        if json.loads(path.read_text("utf-8"))["hidden_size"] == hidden
    )
    text = max(objects.glob("text/*/documents.jsonl"), key=lambda path: path.stat().st_mtime)
    windows = leading_windows(text.parent, directory, _TOKENS, _WINDOWS, False)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    rounding = Rounding.integers(4, G64, True)
    start = time.perf_counter()
    probe = Probe(model, windows, LayerGranularity.linear, torch.bfloat16)
    ready = time.perf_counter()
    units = probe.units[::_EVERY]
    probed = [probe.score(unit, rounding) for unit in units]
    middle = time.perf_counter()
    naive_scores(model, windows, [], rounding)
    naive_ready = time.perf_counter()
    naive = naive_scores(model, windows, [unit.layers for unit in units], rounding)
    naive_setup = naive_ready - middle
    naive_seconds = (time.perf_counter() - naive_ready - naive_setup) / len(units)
    seconds = (middle - ready) / len(units)
    difference = max(
        abs(a - b)
        for score, (losses, divergences) in zip(probed, naive, strict=True)
        for a, b in zip(score.loss + score.kl_divergence, losses + divergences, strict=True)
    )
    count = len(probe.units)
    ratio = (naive_setup + count * naive_seconds) / (ready - start + count * seconds)
    return (
        f"sensitivity of {count} layers: {ratio:.2f} times faster than whole forward passes "
        f"(set-up {ready - start:.1f} s against {naive_setup:.1f} s, then {seconds:.2f} s against "
        f"{naive_seconds:.2f} s a layer, mean of {len(units)}; {_WINDOWS} windows of {_TOKENS} "
        f"tokens), numbers within {difference:.1e} nats"
    )


def naive_scores(
    model: Any, windows: list[list[int]], units: list[list[str]], rounding: Any
) -> list[tuple[list[float], list[float]]]:
    """The plain loop: round a unit's layers, run every window, compare all probabilities."""
    import torch

    from runner.methods.mixed_precision.rounding import all_rounded

    modules = dict(model.named_modules())
    scores = []
    with torch.inference_mode():
        reference = [log_probabilities(model, window) for window in windows]
        for layers in units:
            losses, divergences = [], []
            with all_rounded([modules[name] for name in layers], rounding, torch.bfloat16):
                for window, base in zip(windows, reference, strict=True):
                    found = log_probabilities(model, window)
                    targets = torch.tensor(window)[len(window) // 2 + 1 :, None]
                    losses.append(-found.gather(1, targets).mean().item())
                    divergence = torch.nn.functional.kl_div(
                        found, base, reduction="sum", log_target=True
                    )
                    divergences.append(divergence.item() / len(targets))
            scores.append((losses, divergences))
    return scores


def log_probabilities(model: Any, window: list[int]) -> Any:
    """Of the tokens of a window's second half."""
    import torch

    logits = model(input_ids=torch.tensor([window]), use_cache=False).logits[
        0, len(window) // 2 : -1
    ]
    return logits.float().log_softmax(-1)
