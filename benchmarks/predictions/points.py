"""Published measurements, as the questions that a plan answers."""

import csv
import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.options import option_files, read_option
from runner.config.schema.hardware import Hardware
from runner.config.schema.model import Model
from runner.errors import UsageError
from runner.planning.capacity import memory_bytes
from runner.planning.devices import device_names, read_device
from runner.planning.formats import Format, find_format
from runner.planning.kernels.constants import EngineFamily, engine_family
from runner.planning.kernels.table import has_rows
from runner.planning.model_shape import Shape
from runner.util.yaml_files import load

FOLDER = Path(__file__).parents[1] / "points"
SERVING = FOLDER / "serving.csv"
MORE = FOLDER / "more.csv"
KV_TOKENS = "kv_tokens"
MANY = 10**6
"""Sequences at once, of a run that had as many as fitted."""
_METRICS = {"tpot_ms", "ttft_ms", "output_tok_s", "max_output_tok_s", "e2e_s", KV_TOKENS}
_NARROW = ("fp8_e4m3", "nvfp4_a4")


@dataclass(frozen=True)
class Point:
    """One published figure."""

    row: dict[str, str]
    shape: Shape
    model: str
    fmt: Format
    device: Hardware
    devices: int
    family: EngineFamily
    kv_bits: int
    concurrency: float
    prompt: int
    new: int
    metric: str
    value: float
    """In the row's unit."""

    @property
    def group(self) -> tuple[str, str, str]:
        """What is left out together, so that constants meet what they were not fitted to."""
        return (self.model, self.device.name, self.family.kernels[0])

    @property
    def context(self) -> int:
        """Mean tokens of a sequence while it is decoded."""
        return self.prompt + self.new // 2

    @property
    def is_exact(self) -> bool:
        """Whether kernels were measured on this generation of devices."""
        return has_rows(self.device)


@dataclass(frozen=True)
class Left:
    """A row of which nothing can be predicted, and why."""

    row: dict[str, str]
    reason: str


def read_points(paths: Iterable[Path]) -> tuple[list[Point], list[Left]]:
    """All rows of some files.

    Raises:
        UsageError: A file cannot be read, or is none of measurements.
    """
    points, left = [], []
    for path in paths:
        try:
            with path.open(encoding="utf-8", newline="") as lines:
                rows = list(csv.DictReader(lines))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from error
        for row in rows:
            try:
                points.append(_point(row))
            except (UsageError, ValueError, KeyError, TypeError) as error:
                lacks = f"it lacks column {error}" if isinstance(error, KeyError) else str(error)
                left.append(Left(row, lacks))
    return points, left


def _point(row: dict[str, str]) -> Point:
    model, metric = _model(row["model"]), row["metric"]
    if metric not in _METRICS:
        raise UsageError(f"metric {metric} is none of {', '.join(sorted(_METRICS))}")
    device = _device(row["device"])
    family = engine_family(_family(f"{row['engine']} on {device.kind}"))
    precision = _names()["precisions"].get(model, {}).get(row["precision"], row["precision"])
    fmt, shape = find_format(precision), _shape(model)
    if problem := fmt.problem_with(shape):
        raise UsageError(problem)
    batch, output = row["batch_or_concurrency"], row["output_tokens"]
    return Point(
        row=row,
        shape=shape,
        model=model,
        fmt=fmt,
        device=device,
        devices=int(row["tp"]),
        family=family,
        kv_bits=_kv_bits(row, family),
        concurrency=MANY if batch == "max" else float(batch),
        prompt=max(1, int(row["prompt_tokens"])),
        new=int(output) if output.isdigit() else 0,
        metric=metric,
        value=_positive(row["value"]),
    )


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise UsageError(f"value {text} is not positive")
    return value


@functools.cache
def _names() -> dict[str, Any]:
    content: dict[str, Any] = load(FOLDER / "names.yaml")
    return content


@functools.cache
def _model(name: str) -> str:
    plain = re.sub(r"[\s-]+", "_", name.strip().lower())
    found = _names()["models"].get(plain, plain)
    if found not in option_files("model"):
        raise UsageError(f"there is no model {found} in conf/model")
    return str(found)


@functools.cache
def _shape(model: str) -> Shape:
    return Shape(read_option("model", model, Model).architecture)


@functools.cache
def _device(name: str) -> Hardware:
    if name not in device_names():
        raise UsageError(f"there is no device {name} in conf/hardware")
    device = read_device(name)
    if device.unknown_limits or memory_bytes(device) is None:
        unknown = ", ".join(device.unknown_limits) or "memory"
        raise UsageError(f"of {name} {unknown} is not known")
    return device


@functools.cache
def _family(engine: str) -> str:
    for entry in _names()["engines"]:
        if re.search(entry["pattern"], engine.lower()):
            return str(entry["family"])
    raise UsageError(f"no constants are known of engine {engine}")


def _kv_bits(row: dict[str, str], family: EngineFamily) -> int:
    """Bits of the KV cache's numbers: as the row says, else as its engine chooses.

    TensorRT-LLM follows NVIDIA's FP8 and NVFP4 checkpoints, which ask for 8 bits. Others do as they
    were run on Blackwell: measured times stop growing with users where a cache of 8 bits is full.
    """
    if "kv fp8" in row["engine"].lower():
        return 8
    if row["precision"] not in _NARROW or row["engine"].endswith("1.0.0rc3"):
        return 16
    on_blackwell = row["device"].startswith(("b200", "b300", "gb2", "gb3"))
    return 8 if family.name == "trtllm" or on_blackwell else 16
