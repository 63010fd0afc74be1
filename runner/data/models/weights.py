"""The weights in a model's directory: of all files there, those that loaders read."""

import os
import re
from pathlib import Path
from typing import Any

from runner.data.models.config_json import read_config
from runner.data.models.files import PICKLES, fault, require_own
from runner.data.models.header import Header
from runner.data.models.headers import read_headers
from runner.data.models.parts import incomplete
from runner.data.models.pickled_file import require_data
from runner.util.given import MB, FileFault, read_object, shown

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = "pytorch_model.bin"
_LAYOUTS = ((SINGLE, INDEX),)
_WITH_PICKLES = ((SINGLE, INDEX), (PICKLED, f"{PICKLED}.index.json"))
"""What weights are called, one file or several of an index, in the order they are looked for."""
_ADAPTER = "adapter_config.json"
TORCH_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Torch dtype names of unquantized numbers, by what safetensors calls them."""
_OF_QUANTIZATION = re.compile(r"scale|zero|absmax|quant_map|quant_state|SCB|nested|code$")
"""In names of what belongs to a quantized weight, whatever the type of its own."""
_MOST_INDEX_BYTES = 256 * MB


def weight_files(directory: Path, *, pickles: bool = False) -> list[Path]:
    """Files that transformers reads weights from, by its own choice, in its order.

    That is the file that config.json names (``transformers_weights``), else ``model.safetensors``,
    else the files of ``model.safetensors.index.json``; a checkpoint of llama.cpp's is its
    ``.gguf`` files. Other layouts beside them (``consolidated.safetensors``, stale shards,
    variants) are not read. Empty where there are none; whether those named are there is not
    looked at, but each is safetensors or GGUF, by name and right in the directory.

    Args:
        directory: A model's or a checkpoint's.
        pickles: Take pickled weights (``pytorch_model.bin``) too, where there are no others.

    Raises:
        ValueError: What names them is broken, or names other files; see ``complaint``.
    """
    named = _named(directory, pickles)
    if named is not None:
        of_index = named.endswith(".json")
        return _indexed(directory / named, pickles) if of_index else [directory / named]
    for single, index in _WITH_PICKLES if pickles else _LAYOUTS:
        if os.path.lexists(directory / single):
            return [directory / single]
        if os.path.lexists(directory / index):
            return _indexed(directory / index, pickles)
    return sorted(directory.glob("*.gguf"))


def is_pickle(file: Path) -> bool:
    """Whether a file of weights is pickled, as its name says."""
    return file.suffix.lower() in PICKLES


def weight_file_bytes(directory: Path) -> int:
    """Size of the files that loaders read weights from."""
    return sum(file.stat().st_size for file in weight_files(directory))


def tensor_headers(directory: Path) -> dict[str, Header]:
    """Header of every tensor that loaders read, by name.

    Raises:
        FileFault: A file is broken.
        ValueError: What names the files is; see ``complaint``.
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


def complaint(
    directory: Path,
    *,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    bare: bool = False,
) -> str | None:
    """Why a directory's files cannot be told, or read, with the way out; ``None`` if they can.

    Said of it: files that are none, or lead elsewhere; an adapter; weights that are pickles,
    missing or broken; two sets of them. The sentence goes on after the directory's name.

    Args:
        directory: A model's.
        trust_remote_code: Whether code beside it is used, which may read any file there.
        allow_pickle: Whether pickled weights are read, as data.
        bare: Look at no weights, which may be missing.
    """
    try:
        if problem := fault(directory, trust_remote_code):
            return problem
        if bare:
            return _adapter(directory, [])
        weights = weight_files(directory, pickles=allow_pickle)
        for file in filter(os.path.lexists, weights):
            require_own(directory, file)
        return (
            _adapter(directory, weights)
            or (_named(directory, allow_pickle) is None and _sets(directory, weights, allow_pickle))
            or _files(directory, weights)
            or None
        )
    except FileFault as error:
        return f"cannot be read: {shown(error.path.name)} {error.what}"
    except ValueError as error:
        return str(error)


def _adapter(directory: Path, weights: list[Path]) -> str | None:
    if not (directory / _ADAPTER).is_file():
        return None
    base = shown(read_object(directory / _ADAPTER).get("base_model_name_or_path") or "its base")
    if weights:
        return (
            f"contains an adapter ({_ADAPTER}) beside its weights: save the two merged "
            f"(merge_and_unload() of peft), or remove {_ADAPTER} to measure the weights alone"
        )
    return (
        f"is an adapter of {base} ({_ADAPTER}), not a model: load it on its base model and save "
        "the two merged (merge_and_unload() of peft, then save_pretrained)"
    )


def _sets(directory: Path, weights: list[Path], allow_pickle: bool) -> str | None:
    if (directory / SINGLE).is_file() and (directory / INDEX).is_file():
        others = [f for f in _indexed(directory / INDEX, allow_pickle) if f.name != SINGLE]
        if others:
            return (
                f"has two sets of weights, {SINGLE} and {INDEX}, which names "
                f"{_listed([file.name for file in others])}: remove one of the two"
            )
    if weights:
        return None
    if foreign := sorted(file.name for file in directory.glob("*.safetensors")):
        return (
            f"has neither {SINGLE} nor {INDEX}, which are read, but {_listed(foreign)}: give its "
            "weights one of those names, or load and save them by save_pretrained(directory)"
        )
    pickled = sorted(file.name for file in directory.iterdir() if is_pickle(file))
    if not pickled:
        return "has no weights; save it as safetensors: model.save_pretrained(directory)"
    if allow_pickle:
        return (
            f"has neither {SINGLE} nor {PICKLED}, nor an index of one, but {_listed(pickled)}: "
            f"give the weights of transformers' model the name {PICKLED}, or save it as safetensors"
        )
    return f"has only {_OF_PICKLES}"


_OF_PICKLES = (
    "pickled weights, which can run code; save it as safetensors: "
    "model.save_pretrained(directory), or set model.allow_pickle=true to read them as data alone"
)


def _files(directory: Path, files: list[Path]) -> str | None:
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        by = INDEX if _named(directory, True) is None else "config.json (transformers_weights)"
        return f"lacks {_listed(missing)} of {len(files)} files that {by} names: download them"
    place: dict[str, str] = {}
    stored: dict[str, Header] = {}
    for file in filter(is_pickle, files):
        require_data(file)
    for file in (file for file in files if not is_pickle(file)):
        headers = read_headers(file)
        if twice := [name for name in headers if name in place]:
            return (
                f"has {_listed(twice)} twice, in {place[twice[0]]} and {file.name}: remove the "
                f"file that {INDEX} should not name"
            )
        place |= dict.fromkeys(headers, file.name)
        stored |= headers
    if stored and (layers := _layers(directory)) > len(stored):
        return (
            f"cannot be read: its config.json says num_hidden_layers={layers}, and its weights are "
            f"{len(stored)} tensors"
        )
    if lost := incomplete(stored):
        return f"lacks {_listed(lost)}, which its quantized layers need"
    return None


def _layers(directory: Path) -> int:
    config = directory / "config.json"
    content = read_config(config) if config.is_file() else {}
    return int((content.get("text_config") or content).get("num_hidden_layers") or 0)


def _named(directory: Path, pickles: bool) -> str | None:
    """The file that config.json itself says weights are in."""
    config = directory / "config.json"
    named = read_object(config).get("transformers_weights") if config.is_file() else None
    if named is None:
        return None
    if str(named).endswith(".safetensors.index.json"):
        _require_plain(named, "config.json (transformers_weights)")
        return str(named)
    return _weights_name(named, "config.json (transformers_weights)", pickles)


def _indexed(index: Path, pickles: bool) -> list[Path]:
    weight_map = read_object(index, _MOST_INDEX_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"has an {index.name} without a weight_map: download it again")
    names: list[Any] = list(weight_map.values())
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"has an {index.name} whose weight_map names no files: download it again")
    files = [_weights_name(name, index.name, pickles) for name in sorted(set(names))]
    if len({is_pickle(Path(name)) for name in files}) > 1:
        raise ValueError(
            f"has an {index.name} that names pickles beside safetensors: save it as safetensors"
        )
    return [index.parent / name for name in files]


def _weights_name(name: Any, by: str, pickles: bool) -> str:
    """The name of a file of weights, if it is one that is read."""
    _require_plain(name, by)
    suffix = Path(name).suffix.lower()
    if suffix in PICKLES and not pickles:
        raise ValueError(f"names {shown(name)} in {by}: {_OF_PICKLES}")
    if suffix not in (".safetensors", *PICKLES):
        raise ValueError(f"names {shown(name)} in {by}, which is not a safetensors file")
    return str(name)


def _require_plain(name: Any, by: str) -> None:
    if isinstance(name, str) and Path(name).name != name:
        raise ValueError(
            f"names {shown(name)} in {by}, which is outside the directory or in a subdirectory"
        )
    if not isinstance(name, str) or not name.isprintable() or name.startswith((".", "-")):
        raise ValueError(f"names {shown(name)} in {by}, which is not the name of a weights file")


def _listed(names: list[str]) -> str:
    some = ", ".join(map(shown, names[:3]))
    return some if len(names) <= 3 else f"{some} and {len(names) - 3} more"
