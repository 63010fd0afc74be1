"""What an engine adds to its kernels: fitted to published measurements, see docs/plan.md."""

import functools
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from runner.errors import UsageError

_FILE = Path(__file__).parent / "tables" / "engines.yaml"


@dataclass(frozen=True)
class EngineConstants:
    """Of one family of engines on one generation of devices.

    Ratios are of what kernels alone reach: 1 where the engine adds and saves nothing.
    """

    layer_seconds: float
    """Of a layer's kernels that the tables do not have: norms, rotations, activations."""
    step_seconds: float
    """Of each step, for scheduling and sampling."""
    sequence_seconds: float
    """Of each sequence in a step, on the host."""
    prefill_seconds: float
    """Of a prompt, beside its pass."""
    separate_prefill: float
    """Share of a prompt's pass that does not ride along with a decode step: 1 where prompts have
    steps of their own."""
    prompts_ahead: float
    """Share of all other users' prompts that a new one waits for."""
    floors: float
    """What is left of launches' floors in a graph, as a ratio."""
    reading: float
    computing: float
    expert_floors: float
    expert_reading: float
    expert_computing: float
    cache_reading: float
    attending: float
    """Prefill's attention."""
    reducing: float
    """All-reduces, in time: above 1 is slower."""


NEUTRAL = EngineConstants(
    **{
        field.name: 0.0 if field.name.endswith("_seconds") or field.name == "prompts_ahead" else 1.0
        for field in fields(EngineConstants)
    }
)
"""Of an engine that adds nothing and saves nothing."""


@dataclass(frozen=True)
class EngineFamily:
    """Engines, or versions of one, with kernels and constants of their own."""

    name: str
    kernels: tuple[str, ...]
    """Whose rows of the tables it is predicted by, the likeliest first."""
    constants: EngineConstants
    generations: dict[str, dict[str, float]]
    """Factors on constants, by generation of devices."""

    def on(self, generation: str | None) -> EngineConstants:
        """Its constants on a generation of devices."""
        factors = self.generations.get(generation or "", {})
        values = {
            field.name: getattr(self.constants, field.name) * factors.get(field.name, 1.0)
            for field in fields(EngineConstants)
        }
        return EngineConstants(**values)


@functools.cache
def _content() -> dict[str, Any]:
    import yaml

    content: dict[str, Any] = yaml.safe_load(_FILE.read_text("utf-8"))
    return content


@functools.cache
def engine_family(name: str) -> EngineFamily:
    """The constants of a family.

    Raises:
        UsageError: There are none of that name.
    """
    content = _content()
    if name not in content["engines"]:
        known = ", ".join(sorted(content["engines"]))
        raise UsageError(f"times of engine {name} cannot be predicted; those of {known} can")
    values = dict(content["engines"][name])
    kernels = tuple(values.pop("kernels"))
    values.pop("points", None)
    generations = values.pop("generations", {})
    return EngineFamily(name, kernels, EngineConstants(**values), generations)


def family_of(engine: str | None) -> EngineFamily:
    """The constants of an engine; of one that has none of its own, the table's ``default``."""
    content = _content()
    return engine_family(engine if engine in content["engines"] else content["default"])


def forget() -> None:
    """Read the file anew at the next question: it was written."""
    _content.cache_clear()
    engine_family.cache_clear()
