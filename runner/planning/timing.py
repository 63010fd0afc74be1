"""How long an option's passes take, and where that is known from."""

from collections.abc import Callable
from dataclasses import dataclass

from runner.config.schema.hardware import Hardware
from runner.planning.formats import Format
from runner.planning.kernels.constants import EngineFamily, family_of
from runner.planning.kernels.forward import Forward, Setting, forward
from runner.planning.kernels.kernel_set import PLAIN
from runner.planning.kernels.table import ANY, find_row, has_rows
from runner.planning.model_shape import Shape


@dataclass(frozen=True)
class Subject:
    """What is to be timed: a model as an engine holds it, on devices that compute at once."""

    shape: Shape
    fmt: Format
    device: Hardware
    engine: str | None
    at_once: int
    kv_bits: float
    context_tokens: int
    """Of a sequence while it is decoded, in the mean."""
    prompt_tokens: int


@dataclass(frozen=True)
class Timing:
    """A model's passes, and how well such predictions are known."""

    forward: Forward
    source: str
    """In words: whose constants."""
    family: str
    is_exact: bool = True
    """Whether kernels were measured on this generation of devices."""
    spread: float | None = None
    """Low and high are expected times divided and multiplied by 1 + spread; ``None``: by what
    published measurements of the regime say."""


TimingOf = Callable[[Subject], Timing]


def published(subject: Subject) -> Timing:
    """By kernels' published measurements, and an engine's constants that are fitted to others."""
    family = family_of(subject.engine)
    exact = has_rows(subject.device)
    setting = Setting(subject.device, family, subject.at_once, subject.kv_bits)
    passes = forward(
        subject.shape, subject.fmt, setting, subject.context_tokens, subject.prompt_tokens
    )
    return Timing(passes, f"{family.name}: {_kernels(subject.device, family)}", family.name, exact)


def _kernels(device: Hardware, family: EngineFamily) -> str:
    """Where the kernels were measured that a device is predicted by, in words."""
    found = find_row("gemm", device, family.kernels, of=("kernel", (PLAIN,)))
    measured, own = found.row["generation"], device.generation or device.name
    if measured == own:
        return f"kernels measured on {own}"
    if measured == ANY:
        return f"kernels of {own} assumed"
    return f"kernels measured on {measured}, the nearest to {own}"
