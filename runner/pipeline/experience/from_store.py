"""Efficiency on this machine and quality on this model, from the store, for plans."""

from collections.abc import Sequence
from dataclasses import dataclass

from runner.config.schema.hardware import LOCAL, Hardware
from runner.engines import traits_of
from runner.pipeline.experience.data_points import DataPoint
from runner.pipeline.experience.fitted_constants import fit
from runner.pipeline.stages.eval import STAGE as EVAL
from runner.planning import serving
from runner.planning.formats import Format
from runner.planning.kernels.measured import measured_forward
from runner.planning.model_shape import Shape
from runner.planning.quality import MeasuredQuality
from runner.planning.runtime_format import recipe_format, recorded_kv_cache, runtime_format
from runner.planning.timing import Subject, Timing, published
from runner.store.records import RunRecord

_LEAST_SPREAD = 0.1


@dataclass(frozen=True)
class LocalEngine:
    """An engine on this machine, and every case that was measured here."""

    machine: str
    engine: str
    device: str
    dtype: str
    cases: Sequence[DataPoint]

    def held(self, fmt: Format, device: Hardware) -> Format:
        """How the engine holds a format here; elsewhere kernels compute with it as stored."""
        return runtime_format(fmt, self.engine, self.dtype) if device.name == LOCAL else fmt

    def serving(self, fmt: Format, device: Hardware, shape: Shape) -> serving.Serving:
        """This engine here, whether it serves many users or not; elsewhere one that does."""
        if device.name == LOCAL:
            return serving.Serving(
                self.engine, computes_together=traits_of(self.engine).computes_together
            )
        return serving.serving(fmt, device, shape)

    def timing(self, subject: Subject) -> Timing:
        """By constants fitted to this machine's own runs where there are enough, else published."""
        if subject.device.name != LOCAL:
            return published(subject)
        here = (self.machine, self.engine, self.device, self.dtype)
        label = subject.fmt.label
        cases = [case for case in self.cases if case.engine_group == here]
        found = fit(cases, label)
        if found is None or label not in {case.held.label for case in cases}:
            return published(subject)
        passes = measured_forward(
            subject.shape,
            subject.fmt,
            found.constants,
            kv_bits=subject.kv_bits,
            context=subject.context_tokens,
            prompt=subject.prompt_tokens,
        )
        source = f"calibrated: {found.cases} cases of {self.engine} here"
        return Timing(passes, source, self.engine, spread=max(_LEAST_SPREAD, 2 * found.spread))


def measured_quality(records: Sequence[RunRecord], model: str) -> dict[str, MeasuredQuality]:
    """By format label, the best perplexity that some recipe of that format kept on a model.

    What was computed in float32 comes before what was not, which also tells the arithmetic.
    """
    qualities: dict[str, tuple[bool, float]] = {}
    best: dict[str, MeasuredQuality] = {}
    for record in records:
        evaluation = record.result(EVAL)
        if record.model != model or evaluation is None or evaluation.change is None:
            continue
        fmt = recipe_format(record.config)
        # What a KV cache does to quality is not the weights'.
        if fmt is None or not recorded_kv_cache(record.config).is_auto:
            continue
        ratio = evaluation.change.ratio
        arithmetic = evaluation.arithmetic or "unknown arithmetic"
        rank = (arithmetic != "float32", ratio.estimate)
        if fmt.label in qualities and rank >= qualities[fmt.label]:
            continue
        qualities[fmt.label] = rank
        name = record.label if not rank[0] else f"{record.label}, in {arithmetic}"
        best[fmt.label] = MeasuredQuality(name, ratio.estimate, ratio.low, ratio.high)
    return best
