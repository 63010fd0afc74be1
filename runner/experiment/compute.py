"""Where and in which arithmetic stages compute, found from configuration and machine."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.engine import Device, Dtype, Engine
from runner.hardware.detect import Machine

DTYPE_BITS = {"float32": 32.0, "float16": 16.0, "bfloat16": 16.0}
"""Bits of a number, by torch dtype name."""


@dataclass(frozen=True)
class Compute:
    """The engine's settings, resolved for a machine."""

    device: str
    dtype: str
    """Torch dtype name, or ``auto`` for the checkpoint's own."""
    threads: int

    def dtype_for(self, stored: str) -> str:
        """Torch dtype name in which a model that is stored in ``stored`` computes."""
        return stored if self.dtype == Dtype.auto.value else self.dtype

    def rounding_dtype(self, stored: str) -> str:
        """Torch dtype name in which weights are rounded, and in which that is measured alone.

        On a CPU ``auto`` is float32, so that every CPU makes the same checkpoint. Dividing by
        scales in bfloat16 was measured to add a quarter to the squared error of 8 bits, and
        computing in it to drown what rounding one layer to 8 bits changes. Nor are weights of
        other types rounded in float16, whose range ends before theirs and that of their scales.
        """
        found = self.dtype_for(stored)
        if self.dtype == Dtype.auto.value or (found == Dtype.float16.value and stored != found):
            return Dtype.float32.value if self.device == "cpu" else stored
        return found


def resolve_compute(engine: Engine, machine: Machine) -> Compute:
    """Resolve ``auto``: a GPU where there is one; float32 on a CPU without bfloat16 units.

    On such a CPU bfloat16 is emulated: a forward pass of the default model was measured to
    take five times as long as in float32.
    """
    device = engine.device.value
    if engine.device is Device.auto:
        device = "cuda" if machine.gpus else "cpu"
    dtype = engine.dtype.value
    if engine.dtype is Dtype.auto and device == "cpu" and not machine.computes_bfloat16:
        dtype = Dtype.float32.value
    return Compute(device, dtype, engine.threads or machine.usable_cores)


def model_config(model: Path) -> dict[str, Any]:
    """Content of a model directory's config.json."""
    content: dict[str, Any] = json.loads((model / "config.json").read_text("utf-8"))
    return content


def told_dtype(model: Path) -> str | None:
    """Torch dtype name that a model's config.json claims: what libraries go by, right or wrong."""
    config = model_config(model)
    text = config.get("text_config") or {}
    found = (part.get(key) for part in (config, text) for key in ("dtype", "torch_dtype"))
    name = next((str(name) for name in found if name), None)
    return None if name is None else name.removeprefix("torch.")
