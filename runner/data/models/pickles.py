"""Converts pickled weights to safetensors: loaded once, as data only."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.schema.model import Model
from runner.data.models.companions import copy_companions
from runner.data.models.config_json import read_config
from runner.data.models.locate import locate
from runner.data.models.pickled_file import is_packed, require_data
from runner.data.models.view import only_read
from runner.data.models.weights import INDEX, SINGLE, weight_files
from runner.errors import StageError
from runner.util.given import shown

if TYPE_CHECKING:
    import torch

_SAFE_SINCE = (2, 6)
"""Version of torch before which ``weights_only`` could be led to run code (CVE-2025-32434)."""


def write_unpickled(model: Model, destination: Path, cache: Path) -> None:
    """Write a local model whose weights are pickles with the same tensors in safetensors.

    Args:
        model: Of kind local, with ``allow_pickle``.
        destination: Existing empty directory.
        cache: Folder of the store for what can be made anew.

    Raises:
        StageError: A file holds more than tensors, or torch is too old to tell.
        UsageError: The directory is no model.
    """
    directory = locate(model)
    _require_safe_torch()
    files = weight_files(directory, pickles=True)
    config = read_config(directory / "config.json")
    tied = bool((config.get("text_config") or config).get("tie_word_embeddings", True))
    places: dict[str, str] = {}
    total = 0
    for number, file in enumerate(files, start=1):
        name = SINGLE if len(files) == 1 else f"model-{number:05}-of-{len(files):05}.safetensors"
        tensors = _once(_unpickled(file), file, tied)
        if twice := next((key for key in tensors if key in places), None):
            raise StageError(
                f"{file} contains {shown(twice)}, which another file of the model contains too"
            )
        places |= dict.fromkeys(tensors, name)
        total += sum(tensor.nbytes for tensor in tensors.values())
        _save(tensors, destination / name)
    if len(files) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (destination / INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")
    trusted = model.trust_remote_code
    seen = only_read(directory, cache, trust_remote_code=trusted, weights=False)
    copy_companions(seen, destination, trusted)
    config.pop("transformers_weights", None)
    (destination / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def _require_safe_torch() -> None:
    import torch

    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < _SAFE_SINCE:
        raise StageError(
            f"pickles are not opened with torch {torch.__version__}: weights_only keeps code out "
            f"since {'.'.join(map(str, _SAFE_SINCE))}"
        )


def _unpickled(file: Path) -> dict[Any, Any]:
    import torch

    require_data(file)
    zipped = is_packed(file)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # whatever a damaged file makes of it
        raise StageError(
            f"{file} contains something other than tensors, or is damaged, and was not loaded: "
            f"{_reason(error)}"
        ) from None
    if not isinstance(content, dict) or not content:
        raise StageError(f"{file} contains no named tensors, but {_kind(content)}")
    return content


def _reason(error: Exception) -> str:
    """What torch found, without its advice to trust the file."""
    message = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    if match := re.search(r"GLOBAL ([\w.]+)", message):
        return f"it would call {match[1]}"
    return shown((message.splitlines() or [type(error).__name__])[0])


def _once(content: dict[Any, Any], file: Path, tied: bool) -> "dict[str, torch.Tensor]":
    """Tensors by name; of one that two names share the second is left out if ``tied``."""
    import torch

    unique: dict[str, torch.Tensor] = {}
    shared = set()
    for name, tensor in content.items():
        plain = isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided
        if not isinstance(name, str) or not plain or tensor.is_quantized or tensor.is_meta:
            kind = _kind(tensor)
            raise StageError(
                f"{file} contains {shown(name)}, which is not a plain tensor but {kind}"
            )
        place = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.shape)
        if tied and tensor.numel() and (*place, tensor.stride()) in shared:
            continue
        shared.add((*place, tensor.stride()))
        # A tensor of one's own: views of one storage are not stored.
        unique[name] = tensor.detach().clone(memory_format=torch.contiguous_format)
    return unique


def _save(tensors: "dict[str, torch.Tensor]", path: Path) -> None:
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except (ValueError, KeyError, RuntimeError) as error:
        raise StageError(f"the weights cannot be stored as safetensors: {error}") from None


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"
