"""Memory of a model that is loaded in vLLM."""

from dataclasses import replace
from itertools import chain
from typing import Any

from runner.engines.instruments import torch_memory

LOADER = "quant_runner"
"""Load format of the loader that notes sizes."""


def register_loader() -> None:
    """Teach vLLM a loader that notes the weights' sizes before CPU kernels take them over.

    oneDNN packs weights into memory of its own, where no parameter shows them any more.
    """
    from vllm.model_executor.model_loader import register_model_loader
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

    @register_model_loader(LOADER)
    class Loader(DefaultModelLoader):  # type: ignore[misc]
        def __init__(self, load_config: Any) -> None:
            super().__init__(replace(load_config, load_format="safetensors"))

        def load_weights(self, model: Any, model_config: Any) -> None:
            super().load_weights(model, model_config)
            model.loaded_sizes = {
                name: (tensor.dtype, tensor.nbytes) for name, tensor in model.named_parameters()
            }


def tensor_sizes(model: Any) -> tuple[dict[str, int], int, int]:
    """Bytes by dtype of a model's tensors, of its input embedding, and of its routed experts.

    Shared tensors count once. Runs in the process that holds the model.
    """
    tensors = {}
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.numel():
            tensors[tensor.data_ptr()] = (tensor.dtype, tensor.nbytes)
    sizes: dict[str, int] = {}
    gone = _taken_over(model)
    for dtype, nbytes in chain(tensors.values(), gone.values()):
        name = str(dtype).removeprefix("torch.")
        sizes[name] = sizes.get(name, 0) + nbytes
    # An output embedding's class is derived from the input embedding's.
    embeddings = [m for m in model.modules() if type(m).__name__ == "VocabParallelEmbedding"]
    named = [(name, tensor.nbytes) for name, tensor in model.named_parameters()]
    named += [(name, nbytes) for name, (_, nbytes) in gone.items()]
    routed = sum(nbytes for name, nbytes in named if ".experts." in name)
    return sizes, sum(module.weight.nbytes for module in embeddings), routed


def _taken_over(model: Any) -> dict[str, tuple[Any, int]]:
    """Dtype and size of every weight that a kernel keeps as large as it was, but elsewhere."""
    gone = {}
    for path, noted in getattr(model, "loaded_sizes", {}).items():
        module, _, name = path.rpartition(".")
        left = model.get_submodule(module)._parameters
        # A weight given another name was deleted under its old one and is among the others.
        if name in left and (left[name] is None or not left[name].numel()):
            gone[path] = noted
    return gone


def kv_cache_bytes(worker: Any) -> int:
    """Bytes of keys and values that a vLLM worker has set aside. Runs in its process."""
    # Layers may be views of one allocation, and overlap where some see less of the past.
    allocations: dict[int, int] = {}
    for held in worker.model_runner.kv_caches:
        for tensor in held if isinstance(held, (list, tuple)) else (held,):
            storage = tensor.untyped_storage()
            allocations[storage.data_ptr()] = storage.nbytes()
    return sum(allocations.values())


def begin_peak(_: Any) -> int:
    """Begin a new peak of a worker's GPU; bytes allocated there now. Runs in its process."""
    return torch_memory.begin_peak()


def peak(_: Any) -> int:
    """Most bytes of a worker's tensors since then. Runs in its process."""
    return torch_memory.peak_bytes()


def graphs(_: Any) -> int:
    """Bytes that a worker's captured graphs compute in. Runs in its process."""
    return torch_memory.graph_bytes()
