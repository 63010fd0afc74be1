"""Where and in which dtype stages compute, from configuration and machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.schema.engine import Dtype, Engine
from runner.data.models.config_json import read_config
from runner.planning.hardware.detect import Machine
from runner.util.gpus import Gpu

DTYPE_BITS = {"float32": 32.0, "float16": 16.0, "bfloat16": 16.0}
"""Bits of a number, by torch dtype name."""


_FLOAT32_BYTES = 4
_SHARE = 0.8
"""Of a device's memory that weights may take where another type would do."""


@dataclass(frozen=True)
class Compute:
    """The engine's settings, resolved for a machine."""

    device: str
    """``cpu`` or ``cuda``: in a worker ``cuda`` is the first of ``gpus``, the only ones there."""
    dtype: str
    """Torch dtype name, or ``auto`` for the checkpoint's own."""
    threads: int
    memory_bytes: int | None = None
    """Of the device, of the smallest where there are several; ``None`` where it is not known."""
    gpus: tuple[Gpu, ...] = ()
    """Those in use: none on a CPU."""
    host_bytes: int | None = None
    """Of the machine's memory, beside GPUs'; ``None`` on a CPU."""

    def dtype_for(self, stored: str) -> str:
        """Torch dtype name in which a model that is stored in ``stored`` is timed."""
        return stored if self.dtype == Dtype.auto.value else self.dtype

    def holds_float32(self, parameters: int | None) -> bool:
        """Whether a model of so many parameters can be loaded in float32, with room to compute.

        A size that is not known is taken to fit.
        """
        return _holds(self.memory_bytes, parameters)

    def rounding_dtype(
        self, asked: Dtype, stored: str, parameters: int | None, *, by_blocks: bool = False
    ) -> str:
        """Torch dtype name in which weights are rounded, and in which that is measured alone.

        ``auto`` is float32, so that a recipe makes one checkpoint whatever the CPU, and whatever
        the engine that will serve it. Dividing by scales in bfloat16 was measured to add a quarter
        to the squared error of 8 bits, and computing in it to drown what rounding one layer to 8
        bits changes. Only where a GPU has no room for it, or the memory beside it from which blocks
        are taken there, it is the model's own: on a CPU a model that does not fit is refused.

        Args:
            asked: Of the recipe: ``method.rounding_dtype``.
            stored: Torch dtype name of the model's tensors.
            parameters: Of the model; ``None`` where that is not known.
            by_blocks: Whether the model lies in the machine's memory, one block at a time on a GPU.
        """
        if asked is not Dtype.auto:
            named: str = asked.value
            return named
        room = self.host_bytes if by_blocks else self.memory_bytes
        if self.device == "cpu" or _holds(room, parameters):
            return Dtype.float32.value
        return stored


def _holds(memory_bytes: int | None, parameters: int | None) -> bool:
    if parameters is None or memory_bytes is None:
        return True
    return parameters * _FLOAT32_BYTES <= _SHARE * memory_bytes


def resolve_compute(engine: Engine, machine: Machine, number: int | None = None) -> Compute:
    """Resolve ``auto``: a GPU where there is one; float32 on a CPU without bfloat16 units.

    On such a CPU bfloat16 is emulated: a forward pass of the default model was measured to
    take five times as long as in float32.

    Args:
        engine: Its settings.
        machine: Where it runs.
        number: Of GPUs that share the model where the settings do not say; one by default.
    """
    on_gpu = engine.device.startswith("cuda") or (engine.device == "auto" and bool(machine.gpus))
    dtype = engine.dtype.value
    if engine.dtype is Dtype.auto and not on_gpu and not machine.computes_bfloat16:
        dtype = Dtype.float32.value
    threads = engine.threads or machine.usable_cores
    if not on_gpu:
        return Compute("cpu", dtype, threads, machine.memory_bytes)
    _, wanted = engine.shared_by() or ("", number or 1)
    gpus = machine.gpus[engine.first_gpu :][:wanted]
    # One without memory of its own computes in the machine's.
    memories = [gpu.memory_bytes or machine.memory_bytes for gpu in gpus]
    least = min(memories, default=None)
    return Compute("cuda", dtype, threads, least, gpus, machine.memory_bytes)


def model_config(model: Path) -> dict[str, Any]:
    """Content of a model directory's config.json."""
    return read_config(model / "config.json")


def told_dtype(model: Path) -> str | None:
    """Torch dtype name that a model's config.json claims: what libraries go by, right or wrong."""
    config = model_config(model)
    text = config.get("text_config") or {}
    dtypes = (part.get(key) for part in (config, text) for key in ("dtype", "torch_dtype"))
    name = next((str(name) for name in dtypes if name), None)
    return None if name is None else name.removeprefix("torch.")
