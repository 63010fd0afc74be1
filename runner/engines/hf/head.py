"""The output matrix: whether logits are its product alone, and where a checkpoint stores it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.data.models.weights import weight_files
from runner.engines.distributions import LinearHead

if TYPE_CHECKING:
    import torch


_VOCABULARY_AT_ONCE = 16_384
"""Rows of a narrow output matrix that exist in float32 at once: 268 MB of 4,096 columns."""


def product(
    states: "torch.Tensor", matrix: "torch.Tensor", bias: "torch.Tensor | None" = None
) -> "torch.Tensor":
    """Logits in float32, of states and an output matrix in whatever type.

    A product in bfloat16 rounds logits to 8 bits, a twentieth of a nat where they are around ten.

    Args:
        states: Shape (…, hidden size).
        matrix: Shape (vocabulary, hidden size).
        bias: Shape (vocabulary,).
    """
    import torch

    rows = states.float()
    # In one piece where nothing is copied.
    size = len(matrix) if matrix.dtype == torch.float32 else _VOCABULARY_AT_ONCE
    cut = torch.split(matrix, size)
    parts = [torch.nn.functional.linear(rows, part.float()) for part in cut]
    logits = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
    return logits if bias is None else logits + bias.float()


def widen_head(model: Any) -> None:
    """Have a model's output matrix multiply by ``product``; what follows is then float32 too.

    Left as they are: heads in float32 already, and those that are no plain matrix, being quantized.
    """
    import torch

    head = model.get_output_embeddings()
    # Where several GPUs share a model, accelerate's way around a layer takes its inputs along.
    name = "_old_forward" if hasattr(head, "_hf_hook") else "forward"
    own = vars(head).get(name)
    given = own is None or getattr(own, "__func__", None) is torch.nn.Linear.forward
    if (
        type(head) is torch.nn.Linear
        and given
        and head.weight.dtype in (torch.bfloat16, torch.float16)
    ):
        setattr(head, name, lambda states: product(states, head.weight, head.bias))


def is_linear_in_states(model: Any, ids: "torch.Tensor") -> bool:
    """Whether logits are the output embedding's product with the decoder's last states, no more.

    Some architectures scale the states before it (MiniCPM) or scale or cap logits after it (Cohere,
    Gemma 2). It is read off one forward pass, by what the output embedding is given and what
    becomes of what it gives, so it holds in every number format.

    Args:
        model: A causal language model of transformers.
        ids: A few tokens, shape (1, tokens).
    """
    import torch

    head = model.get_output_embeddings()
    if head is None:
        return False
    states: list[torch.Tensor] = []
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []
    handles = [
        model.get_decoder().register_forward_hook(
            lambda _, __, output: states.append(
                output[0] if isinstance(output, tuple) else output.last_hidden_state
            )
        ),
        head.register_forward_hook(lambda _, given, output: calls.append((given[0], output))),
    ]
    try:
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    if len(states) != 1 or len(calls) != 1:
        return False
    ((given, product),) = calls
    # Several GPUs that share a model bring its logits back to the first.
    logits = logits.to(product.device)
    return torch.equal(given, states[0].to(given.device)) and torch.equal(
        product.float(), logits.float()
    )


def find_head(model: Any, checkpoint: Path) -> LinearHead | None:
    """Where the output matrix of a loaded model is stored; ``None`` when it is nowhere.

    It is nowhere when it was quantized, changed while it was loaded, or has a bias.
    """
    import torch

    head = model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        return None
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter is not head.weight:
            continue
        stored = _read(checkpoint, name)
        if stored is not None and torch.equal(stored.to(parameter), parameter):
            return LinearHead(name, str(parameter.dtype).removeprefix("torch."))
    return None


def read_head(checkpoint: Path, head: LinearHead, device: str) -> "torch.Tensor":
    """The matrix, of shape (vocabulary, hidden size), as it was when it was found.

    Raises:
        FileNotFoundError: The checkpoint does not have it.
    """
    import torch

    stored = _read(checkpoint, head.tensor)
    if stored is None:
        raise FileNotFoundError(f"{checkpoint} has no tensor {head.tensor}")
    return stored.to(device, getattr(torch, head.dtype))


def _read(checkpoint: Path, name: str) -> "torch.Tensor | None":
    from safetensors import safe_open

    for file in weight_files(checkpoint):
        if file.suffix != ".safetensors":
            continue
        with safe_open(file, framework="pt") as tensors:
            if name in tensors.keys():  # noqa: SIM118 - not a mapping
                weight: torch.Tensor = tensors.get_tensor(name)
                return weight
    return None
