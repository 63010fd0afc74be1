"""What R1 of SpinQuant costs at 4 bits, and why: the factors of norms that move into the weights.

``python -m benchmarks.norm_factors``: of the default model, the relative squared error that
rounding to 4 bits in groups of 64 makes in what layers behind a norm give, and the KL divergence of
the whole model, with weights as they came, with norms' factors moved into them (R1 needs that), and
rotated.
A minute once the store has the model.
"""

from pathlib import Path
from typing import Any

from runner import run

_TOKENS, _WINDOWS, _GROUP = 512, 4, 64
_BLOCK = "model.layers."
_READERS = {
    "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
}
_WRITERS = ("o_proj", "down_proj")


def measure() -> str:
    """A line for each kind of layer, then one for each state of the whole model."""
    import torch
    from transformers import AutoModelForCausalLM

    from benchmarks.allocation import newest
    from runner.data.texts.windows import leading_windows

    result = run(["method=none", "stages=[eval]", "eval=quick", "eval.windows=2", "tracker=none"])
    assert result.record is not None, result.reason
    objects = Path(result.record.config["store"]["root"]).expanduser() / "objects"
    directory = newest(objects / "model", "package:") / "model"
    text = newest(objects / "text", f'{result.record.config["eval"]["text"]["name"]}"')
    windows = torch.tensor(leading_windows(text, directory, _TOKENS, _WINDOWS, False))

    def loaded(*, fused: bool = False, matrix: Any = None, rounds: bool = True) -> Any:
        model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        model.eval().requires_grad_(False)
        if fused:
            _fuse(model)
        if matrix is not None:
            _rotate(model, matrix)
        for name, module in model.named_modules() if rounds else ():
            if name.startswith(_BLOCK) and isinstance(module, torch.nn.Linear):
                module.weight.copy_(_rounded(module.weight))
        return model

    dense, matrix = loaded(rounds=False), _hadamard(576)
    lines = _errors(dense, windows[:1], matrix)
    states = {
        "rotated, not rounded": loaded(fused=True, matrix=matrix, rounds=False),
        "rounded as they came": loaded(),
        "rounded with norms' factors": loaded(fused=True),
        "rounded with them and rotated": loaded(fused=True, matrix=matrix),
    }
    for label, model in states.items():
        means = [_divergence(dense, model, window[None]) for window in windows]
        lines.append(f"weights {label}: KL divergence {sum(means) / len(means):.4f} nats")
    return "\n".join(lines)


def _errors(model: Any, window: Any, matrix: Any) -> list[str]:
    """Geometric means over blocks of relative squared errors, by kind of layer."""
    import torch

    found: dict[str, list[Any]] = {}

    def hook(block: Any, norm: Any, readers: tuple[str, ...]) -> Any:
        def look(_: Any, arguments: Any, given: Any) -> None:
            del given
            factors = norm.weight
            hidden = arguments[0][0, 1:]  # the first token is a sink
            inputs = hidden / hidden.square().mean(-1, keepdim=True).sqrt()
            for name in readers:
                weight = block.get_submodule(name).weight
                exact = (inputs * factors) @ weight.T
                fused = weight * factors
                states = (
                    (inputs * factors, weight), (inputs, fused), (inputs @ matrix, fused @ matrix)
                )  # fmt: skip
                errors = [x @ (_rounded(w) - w).T for x, w in states]
                ratios = [error.square().sum() / exact.square().sum() for error in errors]
                found.setdefault(name, []).append(torch.stack(ratios))

        return look

    hooks = [
        getattr(block, norm).register_forward_hook(hook(block, getattr(block, norm), readers))
        for block in model.model.layers
        for norm, readers in _READERS.items()
    ]
    model(window)
    for one in hooks:
        one.remove()
    lines = []
    for name, ratios in found.items():
        plain, fused, rotated = torch.stack(ratios).log().mean(0).exp().tolist()
        lines.append(f"{name}: {plain:.4f}, with norms' factors {fused:.4f}, rotated {rotated:.4f}")
    return lines


def _divergence(dense: Any, model: Any, window: Any) -> float:
    exact, found = (one(window).logits[0].log_softmax(-1) for one in (dense, model))
    return float((exact.exp() * (exact - found)).sum(-1).mean())


def _rounded(weight: Any) -> Any:
    """To 4 bits, symmetric around zero."""
    groups = weight.view(weight.shape[0], -1, _GROUP)
    scale = groups.abs().amax(-1, keepdim=True) / 7.5
    return ((groups / scale).round().clamp(-8, 7) * scale).view_as(weight)


def _fuse(model: Any) -> None:
    """Move the norms' factors into the layers behind them."""
    import torch

    for block in model.model.layers:
        for norm, readers in _READERS.items():
            factors = getattr(block, norm).weight
            for name in readers:
                block.get_submodule(name).weight.mul_(factors)
            factors.fill_(1)
    head, last = model.lm_head, model.model.norm.weight
    head.weight = torch.nn.Parameter(head.weight * last, requires_grad=False)  # no longer tied
    last.fill_(1)


def _rotate(model: Any, matrix: Any) -> None:
    readers = [name for names in _READERS.values() for name in names]
    for weight in (model.model.embed_tokens.weight, model.lm_head.weight):
        weight.copy_(weight @ matrix)
    for block in model.model.layers:
        for name, module in block.named_modules():
            if name in readers:
                module.weight.copy_(module.weight @ matrix)
            elif name.endswith(_WRITERS):
                module.weight.copy_(matrix.T @ module.weight)


def _hadamard(size: int) -> Any:
    import torch
    from compressed_tensors.transform.utils.hadamard import random_hadamard_matrix

    drawn = torch.Generator().manual_seed(42)
    matrix: Any = random_hadamard_matrix(size, dtype=torch.float64, gen=drawn)
    return (matrix / size**0.5).float()


if __name__ == "__main__":
    print(measure())
