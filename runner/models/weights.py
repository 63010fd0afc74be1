"""The weights of a model's directory: those files that loaders read, out of all that lie there."""

import json
import re
from pathlib import Path
from typing import Any

from runner.models.headers import LFS_POINTER, POINTER_COMPLAINT, Header, read_headers
from runner.models.parts import incomplete

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_ADAPTER = "adapter_config.json"
TORCH_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Torch dtype names of unquantized numbers, by what safetensors calls them."""
_OF_QUANTIZATION = re.compile(r"scale|zero|absmax|quant_map|quant_state|SCB|nested|code$")
"""In names of what belongs to a quantized weight, whatever the type of its own."""
_MOST_POINTER_BYTES = 1024
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def weight_files(directory: Path) -> list[Path]:
    """Files that transformers reads weights from, by its own choice, in its order.

    That is the file that config.json names (``transformers_weights``), else ``model.safetensors``,
    else the files of ``model.safetensors.index.json``; a checkpoint of llama.cpp's is its
    ``.gguf`` files. Other layouts beside them (``consolidated.safetensors``, stale shards,
    variants) are not read. Empty where there are none; whether those named are there is not
    looked at.

    Raises:
        ValueError: What names them is broken; see ``complaint``.
    """
    named = _named(directory)
    if named is not None:
        return _indexed(directory / named) if named.endswith(".json") else [directory / named]
    if (directory / SINGLE).is_file():
        return [directory / SINGLE]
    if (directory / INDEX).is_file():
        return _indexed(directory / INDEX)
    return sorted(directory.glob("*.gguf"))


def weight_file_bytes(directory: Path) -> int:
    """Size of the files that loaders read weights from."""
    return sum(file.stat().st_size for file in weight_files(directory))


def tensor_headers(directory: Path) -> dict[str, Header]:
    """Header of every tensor that loaders read, by name.

    Raises:
        ValueError: A file is broken; see ``complaint``, which says which.
    """
    headers: dict[str, Header] = {}
    for file in weight_files(directory):
        headers |= read_headers(file)
    return headers


def stored_dtype(directory: Path) -> str:
    """Torch dtype name of most of a directory's unquantized numbers; ``bfloat16`` without any.

    It is read off the tensors: the key of config.json may be missing, or left over from another
    type.
    """
    sizes: dict[str, int] = {}
    for name, header in tensor_headers(directory).items():
        if header.dtype in TORCH_NAMES and not _OF_QUANTIZATION.search(name.rpartition(".")[2]):
            sizes[header.dtype] = sizes.get(header.dtype, 0) + header.elements
    return TORCH_NAMES[max(sizes, key=lambda kind: sizes[kind])] if sizes else "bfloat16"


def unread_weights(directory: Path) -> list[Path]:
    """Files beside the weights that look like some, which other loaders than transformers take."""
    read = set(weight_files(directory))
    found = (file for pattern in ("*.safetensors", "*.gguf") for file in directory.glob(pattern))
    return sorted(file for file in found if file not in read)


def complaint(directory: Path) -> str | None:
    """Why a directory's weights cannot be told, or read, with the way out; ``None`` if they can.

    Said of it: an adapter, files missing or broken, two sets of weights. The sentence goes on
    after the directory's name.
    """
    try:
        return next(filter(None, (look(directory) for look in _LOOKS)), None)
    except ValueError as error:
        return str(error)


def _adapter(directory: Path) -> str | None:
    if not (directory / _ADAPTER).is_file():
        return None
    base = _read_json(directory / _ADAPTER).get("base_model_name_or_path") or "its base model"
    if weight_files(directory):
        return (
            f"holds an adapter ({_ADAPTER}) beside its weights: save the two merged "
            f"(merge_and_unload() of peft), or take {_ADAPTER} away to measure the weights alone"
        )
    return (
        f"is an adapter of {base} ({_ADAPTER}), not a model: load it on its base model and save "
        "the two merged (merge_and_unload() of peft, then save_pretrained)"
    )


def _sets(directory: Path) -> str | None:
    if _named(directory) is not None:
        return None
    if (directory / SINGLE).is_file() and (directory / INDEX).is_file():
        others = [file for file in _indexed(directory / INDEX) if file.name != SINGLE]
        if others:
            return (
                f"has two sets of weights, {SINGLE} and {INDEX}, which names "
                f"{_listed([file.name for file in others])}: take one of the two away"
            )
    if weight_files(directory):
        return None
    if foreign := sorted(file.name for file in directory.glob("*.safetensors")):
        return (
            f"has neither {SINGLE} nor {INDEX}, which are read, but {_listed(foreign)}: give its "
            "weights one of those names, or load and save them by save_pretrained(directory)"
        )
    pickled = any(any(directory.glob(pattern)) for pattern in _PICKLED)
    why = "has only pickled weights, which can run code" if pickled else "has no weights"
    return f"{why}; save it as safetensors: model.save_pretrained(directory)"


def _pointers(directory: Path) -> str | None:
    """A clone without Git LFS leaves these in place of tokenizers too."""
    for pattern in ("*.json", "*.model", "tokenizer*", "*.tiktoken"):
        for file in directory.glob(pattern):
            if file.is_file() and file.stat().st_size < _MOST_POINTER_BYTES:
                with file.open("rb") as stream:
                    if stream.read(len(LFS_POINTER)) == LFS_POINTER:
                        return f"cannot be read: {file.name} {POINTER_COMPLAINT}"
    return None


def _files(directory: Path) -> str | None:
    files = weight_files(directory)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        by = INDEX if _named(directory) is None else "config.json (transformers_weights)"
        return f"lacks {_listed(missing)} of {len(files)} files that {by} names: fetch what is left"
    place: dict[str, str] = {}
    stored: dict[str, Header] = {}
    for file in files:
        try:
            headers = read_headers(file)
        except ValueError as error:
            return f"cannot be read: {file.name} {error}"
        if twice := [name for name in headers if name in place]:
            return (
                f"has {_listed(twice)} twice, in {place[twice[0]]} and {file.name}: take the file "
                f"away that {INDEX} should not name"
            )
        place |= dict.fromkeys(headers, file.name)
        stored |= headers
    if lost := incomplete(stored):
        return f"lacks {_listed(lost)}, without which its quantized layers mean nothing"
    return None


def _named(directory: Path) -> str | None:
    """The file that config.json itself says weights are in."""
    config = directory / "config.json"
    named = _read_json(config).get("transformers_weights") if config.is_file() else None
    if named is None:
        return None
    inside = (directory / str(named)).resolve().is_relative_to(directory.resolve())
    if not inside or not str(named).endswith((".safetensors", ".safetensors.index.json")):
        raise ValueError(
            f"names {named} in config.json (transformers_weights), which is no safetensors file of "
            "the directory"
        )
    return str(named)


def _indexed(index: Path) -> list[Path]:
    return [index.parent / name for name in sorted(set(_weight_map(index).values()))]


def _weight_map(index: Path) -> dict[str, str]:
    found = _read_json(index).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise ValueError(f"has an {index.name} without a weight_map: fetch it again")
    if outside := [name for name in found.values() if Path(str(name)).name != name]:
        raise ValueError(f"has an {index.name} that names {outside[0]}, outside the directory")
    return found


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"has a {file.name} that is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"has a {file.name} that is no JSON object")
    return content


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


_LOOKS = (_pointers, _adapter, _sets, _files)
