"""Memory of GPUs as the allocators of torch count it, in this process and over all of its GPUs."""

from typing import Any


def begin_peak() -> int:
    """Begin a new peak on every GPU; bytes of tensors that there are now."""
    import torch

    gpus = range(torch.cuda.device_count())
    for gpu in gpus:
        torch.cuda.reset_peak_memory_stats(gpu)
    return sum(torch.cuda.memory_allocated(gpu) for gpu in gpus)


def peak_bytes() -> int:
    """Most bytes of tensors since ``begin_peak``: each GPU at its own worst moment."""
    import torch

    return sum(torch.cuda.max_memory_allocated(gpu) for gpu in range(torch.cuda.device_count()))


def graph_bytes() -> int:
    """Bytes that captured CUDA graphs compute in.

    Graphs have pools of their own. What they write between their inputs and outputs is no tensor
    once they are captured, and so in no peak, but it is theirs for good.
    """
    import torch

    segments: list[dict[str, Any]] = torch.cuda.memory_snapshot(include_traces=False)  # type: ignore[no-untyped-call]
    return sum(
        int(segment["total_size"] - segment["allocated_size"])
        for segment in segments
        if tuple(segment["segment_pool_id"]) != (0, 0)
    )


def unused_bytes() -> int:
    """Bytes that the allocators have taken from the driver and that no tensor uses."""
    import torch

    return sum(
        torch.cuda.memory_reserved(gpu) - torch.cuda.memory_allocated(gpu)
        for gpu in range(torch.cuda.device_count())
    )


def let_go_of_unused() -> None:
    """Give the driver back what no tensor uses: scraps of loading."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
