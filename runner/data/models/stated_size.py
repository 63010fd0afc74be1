"""How many parameters a model should have: by its weights' own files, or by its name."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.schema.model import Model, ModelKind
from runner.data.models.hub import cached_file
from runner.data.models.weights import INDEX, tensor_headers, weight_files
from runner.util.given import FileFault, read_object, user_path

_EXACTLY = 0.02
"""How far apart a count and the files may lie: vision projectors, rotary tables, padding."""
_NUMBERS = ("BF16", "F16", "F32", "F64", "F8_E4M3", "F8_E5M2", "I8")
"""Types of safetensors that hold one weight a number."""
_OF_QUANTIZATION = re.compile(r"scale|zero|absmax|quant|SCB|g_idx")
_ELSEWHERE = re.compile(
    r"(^|[._])(visual|vision|audio|image|mm_projector|multi_modal|embed_vision|embed_audio|mtp|"
    r"rotary_emb|patch)"
)
"""Tensors of other inputs, and what is no parameter of the language model."""
_LAYER = re.compile(r"(?:layers|h|blocks)\.(\d+)\.")
_TIMES = re.compile(r"(?<![A-Za-z0-9.])(\d+)x(\d+(?:\.\d+)?)B(?![A-Za-z0-9])", re.IGNORECASE)
_SIZE = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([BMT])(?![A-Za-z0-9])", re.IGNORECASE)
_ACTIVE = re.compile(r"(?<![A-Za-z0-9])A(\d+(?:\.\d+)?)B(?![A-Za-z0-9])", re.IGNORECASE)
_EXPERTS = re.compile(r"(?<![A-Za-z0-9])\d+E(?![A-Za-z0-9])")
_UNITS = {"M": 1e6, "B": 1e9, "T": 1e12}
_MOST_INDEX_BYTES = 256 * 2**20


@dataclass(frozen=True)
class StatedSize:
    """Between what a model's parameters should lie, and who says so."""

    least: float
    most: float
    source: str
    active: bool = False
    """Of a token's, not of all."""

    def holds(self, whole: float, without_tables: float) -> bool:
        """Whether a count agrees; names often leave embeddings out."""
        return without_tables <= self.most and whole >= self.least


def stored_size(model: Model, layers: int, *, quantized: bool, tied: bool) -> StatedSize | None:
    """By the heads of the safetensors files, else by their index; ``None`` where they do not tell.

    Args:
        model: Of kind local, or hub and in the cache.
        layers: Of the language model: those behind them predict further tokens.
        quantized: Whether config.json says so.
        tied: Whether the head is the embedding, which some files hold twice.
    """
    directory = _directory(model)
    if directory is None:
        return None
    try:
        files = weight_files(directory)
        if files and all(file.is_file() for file in files):
            number = _of_headers(directory, layers, tied)
            return _about(number, "the heads of its safetensors files")
        if quantized or not (directory / INDEX).is_file():
            return None
        number = _of_index(read_object(directory / INDEX, _MOST_INDEX_BYTES), layers)
        return _about(number, INDEX)
    except (FileFault, ValueError, OSError):
        return None  # told where the weights are read


def named_sizes(model: Model) -> list[StatedSize]:
    """By a model's name: ``-8B``, ``-30B-A3B``, ``8x7B``; empty where it states none."""
    for name in _names(model):
        if found := _of_name(name):
            return found
    return []


def _names(model: Model) -> list[str]:
    place = Path(model.path or "")
    place = place.parent if place.suffix == ".json" else place
    return [(model.hub_id or "").rpartition("/")[2], place.name, model.name]


def _of_name(name: str) -> list[StatedSize]:
    text = name.replace("_", "-")
    if times := _TIMES.search(text):
        product = float(times[1]) * float(times[2]) * 1e9
        # Attention is not there so many times.
        return [StatedSize(0.7 * product, 1.02 * product, f"its name ({times[0]})")]
    found = []
    size, active = _SIZE.search(text), _ACTIVE.search(text)
    if size:
        # 17B-16E: what a token meets, of 16 experts.
        is_active = bool(_EXPERTS.search(text))
        least, most = _rounded(size[1], _UNITS[size[2].upper()])
        found.append(StatedSize(least, most, f"its name ({size[0]})", is_active))
    if active:
        least, most = _rounded(active[1], 1e9)
        found.append(StatedSize(least, most, f"its name ({active[0]})", active=True))
    return found


def _rounded(digits: str, unit: float) -> tuple[float, float]:
    """What is written so when it is rounded to the digits that count."""
    whole, _, part = digits.partition(".")
    step = 10.0 ** -len(part) if part else 10.0 ** (len(whole) - len(whole.rstrip("0")))
    middle = float(digits)
    return (
        unit * (middle - step / 2) * (1 - _EXACTLY),
        unit * (middle + step / 2) * (1 + _EXACTLY),
    )


def _about(number: float | None, source: str) -> StatedSize | None:
    if not number:
        return None
    return StatedSize(number * (1 - _EXACTLY), number * (1 + _EXACTLY), source)


def _directory(model: Model) -> Path | None:
    if model.kind is ModelKind.local:
        place = user_path(str(model.path), "model.path")
        place = place.parent if place.suffix == ".json" else place
        return place if place.is_dir() else None
    if model.kind is ModelKind.hub and model.file is None:
        config = cached_file(model, "config.json")
        return config.parent if config else None
    return None


def _of_headers(directory: Path, layers: int, tied: bool) -> float | None:
    total = 0
    for name, header in tensor_headers(directory).items():
        if not _counts(name, layers) or (tied and name.endswith("lm_head.weight")):
            continue
        if _OF_QUANTIZATION.search(name.rpartition(".")[2]):
            continue
        if header.dtype not in _NUMBERS:
            return None  # packed: several weights a number
        total += header.elements
    return total


def _of_index(index: dict[str, Any], layers: int) -> float | None:
    """Of an index that tells bytes alone, if they are all of the language model, in 16 bits."""
    metadata = index.get("metadata")
    names = index.get("weight_map")
    if not isinstance(metadata, dict) or not isinstance(names, dict):
        return None
    if not all(_counts(str(name), layers) for name in names):
        return None
    for key, divisor in (("total_parameters", 1), ("total_size", 2)):
        value = metadata.get(key)
        if isinstance(value, int | float) and math.isfinite(value):
            return float(value) / divisor
    return None


def _counts(name: str, layers: int) -> bool:
    if _ELSEWHERE.search(name):
        return False
    layer = _LAYER.search(name)
    return layer is None or int(layer[1]) < layers
