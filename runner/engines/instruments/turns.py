"""Timed repetitions of a loaded model, alone or interleaved with another."""

from collections.abc import Callable
from dataclasses import dataclass, field

from runner.config.schema.bench import Bench
from runner.data.models.weights import tensor_headers, weight_file_bytes
from runner.engines.base import GenerationTiming, LoadedModel
from runner.engines.instruments.energy import Energy, EnergyMeter, metered, total
from runner.engines.instruments.memory import free_memory_bytes
from runner.engines.loading import LoadRequest

_ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_SPARE = 1.25
"""What loading takes beyond the weights: a tensor at a time in another type, the cache."""


@dataclass
class Repetitions:
    """Measured repetitions at one batch size, and the energy they took where that is metered."""

    timings: list[GenerationTiming] = field(default_factory=list)
    energy: list[Energy | None] = field(default_factory=list)

    @property
    def whole_energy(self) -> Energy | None:
        """Of all of them."""
        return total(self.energy)


@dataclass(frozen=True)
class Stopwatch:
    """What every repetition of a stage shares."""

    bench: Bench
    meter: EnergyMeter
    tick: Callable[[str], None]
    """Told of each repetition that is over."""

    def warm_up(self, model: LoadedModel, batch_size: int, least: int = 0) -> None:
        """The repetitions that are not measured: as many as asked for, and ``least``."""
        for _ in range(max(least, self.bench.warmups)):
            self._generate(model, batch_size, f"warming up, batch {batch_size}")

    def alone(self, model: LoadedModel, batch_size: int) -> Repetitions:
        """One repetition after the other."""
        repetitions = Repetitions()
        for _ in range(self.bench.repetitions):
            self._measure(model, batch_size, repetitions, f"generating, batch {batch_size}")
        return repetitions

    def in_turns(
        self, one: LoadedModel, other: LoadedModel, batch_size: int
    ) -> tuple[Repetitions, Repetitions]:
        """A pair of repetitions after the other, begun by the one and by the other by turns.

        What drifts slowly is in both of a pair, and what a model leaves in the caches meets either
        as often: A B, B A, A B, …
        """
        repetitions = (Repetitions(), Repetitions())
        pair = [*zip((one, other), repetitions, strict=True)]
        for repetition in range(self.bench.repetitions):
            for model, of_model in pair if repetition % 2 == 0 else reversed(pair):
                self._measure(model, batch_size, of_model, f"interleaved, batch {batch_size}")
        return repetitions

    def _measure(self, model: LoadedModel, batch_size: int, found: Repetitions, what: str) -> None:
        with metered(self.meter) as energy:
            timing = self._generate(model, batch_size, what)
        found.timings.append(timing)
        found.energy += energy

    def _generate(self, model: LoadedModel, batch_size: int, what: str) -> GenerationTiming:
        timing = model.generate(batch_size, self.bench.prompt_tokens, self.bench.new_tokens)
        self.tick(what)
        return timing


def no_room_for(request: LoadRequest, work_bytes: int) -> str | None:
    """Why an unquantized model does not fit into memory beside what is there; ``None`` if it does.

    Args:
        request: How it would be loaded.
        work_bytes: What computing takes beyond the weights.
    """
    free = free_memory_bytes(request.device)
    needed = _SPARE * loaded_bytes(request) + work_bytes
    if free is None or needed <= free:
        return None
    return (
        f"it needs about {needed / 1e9:.2f} GB beside the recipe, and {free / 1e9:.2f} GB are free"
    )


def loaded_bytes(request: LoadRequest) -> int:
    """Weights of an unquantized model as they are held once loaded."""
    width = _ITEM_BYTES.get(request.dtype)
    if request.checkpoint_format != "float" or width is None:
        return weight_file_bytes(request.checkpoint)
    return sum(width * header.elements for header in tensor_headers(request.checkpoint).values())
