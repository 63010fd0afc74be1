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
from runner.planning.devices import read_device
from runner.planning.formats import Format, find_format
from runner.planning.kernels.constants import EngineFamily, engine_family
from runner.planning.model_shape import Shape

FOLDER = Path(__file__).parents[1] / "points"
DEFAULT = FOLDER / "serving.csv"
_MANY = 10**6
_METRICS = {"tpot_ms", "ttft_ms", "output_tok_s", "max_output_tok_s", "e2e_s", "kv_tokens"}


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


@dataclass(frozen=True)
class Left:
    """A row of which nothing can be predicted, and why."""

    row: dict[str, str]
    reason: str


def read_points(paths: Iterable[Path]) -> tuple[list[Point], list[Left]]:
    """All rows of some files."""
    points, left = [], []
    for path in paths:
        with path.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                try:
                    points.append(_point(row))
                except (UsageError, ValueError, KeyError) as error:
                    left.append(Left(row, str(error)))
    return points, left


def _point(row: dict[str, str]) -> Point:
    model, metric = _model(row["model"]), row["metric"]
    if metric not in _METRICS:
        raise UsageError(f"metric {metric} is none of {', '.join(sorted(_METRICS))}")
    device = _device(row["device"])
    family = engine_family(_family(f"{row['engine']} on {device.kind}"))
    precision = _names()["precisions"].get(model, {}).get(row["precision"], row["precision"])
    batch = row["batch_or_concurrency"]
    output = row["output_tokens"]
    return Point(
        row=row,
        shape=_shape(model),
        model=model,
        fmt=find_format(precision),
        device=device,
        devices=int(row["tp"]),
        family=family,
        kv_bits=_kv_bits(row, family),
        concurrency=_MANY if batch == "max" else float(batch),
        prompt=max(1, int(row["prompt_tokens"])),
        new=int(output) if output.isdigit() else 0,
        metric=metric,
        value=float(row["value"]),
    )


@functools.cache
def _names() -> dict[str, Any]:
    import yaml

    content: dict[str, Any] = yaml.safe_load((FOLDER / "names.yaml").read_text("utf-8"))
    return content


@functools.cache
def _model(name: str) -> str:
    plain = name.lower().replace("-", "_").replace(" ", "_")
    found = _names()["models"].get(plain, plain)
    if found not in option_files("model"):
        raise UsageError(f"there is no model {found} in conf/model")
    return str(found)


@functools.cache
def _shape(model: str) -> Shape:
    return Shape(read_option("model", model, Model).architecture)


@functools.cache
def _device(name: str) -> Hardware:
    device = read_device(name)
    if not device.memory_bandwidth_gigabytes_per_second or not device.peak_teraflops:
        raise UsageError(f"the limits of {name} are not known")
    return device


@functools.cache
def _family(engine: str) -> str:
    for entry in _names()["engines"]:
        if re.search(entry["pattern"], engine.lower()):
            return str(entry["family"])
    raise UsageError(f"no constants are known of engine {engine}")


def _kv_bits(row: dict[str, str], family: EngineFamily) -> int:
    """NVIDIA's FP8 and NVFP4 checkpoints of dense models say that their cache is of 8 bits.

    TensorRT-LLM goes by it, and so does vLLM as it was run on Blackwell.
    """
    narrow = row["precision"] in ("fp8_e4m3", "nvfp4_a4")
    if "rc3" in row["engine"] and "1.0" in row["engine"]:
        return 16
    if narrow and family.name == "trtllm":
        return 8
    return (
        8
        if narrow and row["device"].startswith(("b200", "b300", "gb")) and "lama" in row["model"]
        else 16
    )
