"""Limits that speeds are compared with: the device's, the dtype's and the format's."""

from collections.abc import Mapping

from runner.config.schema.hardware import Hardware
from runner.engines import computing_at_once, find_engine
from runner.evaluation.metrics.flops import ForwardWork, forward_work
from runner.evaluation.metrics.speed import Limits
from runner.pipeline.checkpoint import Checkpoint
from runner.pipeline.context import RunContext
from runner.pipeline.inputs import Inputs
from runner.pipeline.stages.jobs.hardware import STAGE as HARDWARE
from runner.planning.hardware.table import published_device
from runner.planning.model_facts import model_facts

_FORMATS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def limits(inputs: Inputs) -> list[Limits]:
    """The measured limits, and the published ones where the table lists the device.

    Both are of one device; GPUs that compute together can do as many times as much.
    """
    number = computing_at_once(inputs.config.engine.name, len(inputs.compute.gpus))
    found = HARDWARE.of_machine(inputs).known
    bandwidth, peaks = None, {}
    if found is not None:
        bandwidth, peaks = found.bandwidth_bytes_per_second, found.peak_teraflops
    measured = _limits("measured", bandwidth, peaks, number)
    listed: Hardware | None = inputs.config.hardware
    if listed is None or listed.is_local:
        on_gpu = inputs.compute.device == "cuda"
        listed = published_device(inputs.machine) if on_gpu else None
    if listed is None:
        return [measured]
    gigabytes = listed.memory_bandwidth_gigabytes_per_second
    bandwidth = None if gigabytes is None else gigabytes * 1e9
    return [measured, _limits(listed.name, bandwidth, listed.peak_teraflops, number)]


def _limits(
    source: str, bandwidth: float | None, peaks: Mapping[str, float], number: int
) -> Limits:
    return Limits(
        source,
        None if bandwidth is None else number * bandwidth,
        {name: number * rate for name, rate in peaks.items()},
        number,
    )


def model_work(run: RunContext) -> ForwardWork | None:
    """Operations of the model's forward pass; ``None`` when its dimensions are not known."""
    shape = (run.facts or model_facts(run.config.model)).architecture
    return forward_work(
        layers=shape.layers,
        hidden=shape.hidden,
        intermediate=shape.intermediate,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        vocab=shape.vocab,
        parameters=shape.parameters,
        tied_embeddings=shape.tied_embeddings,
    )


def arithmetic(inputs: Inputs, subject: Checkpoint, dense: bool) -> str:
    """Format in which an engine multiplies: that of activations, whatever weights are kept in.

    Args:
        inputs: The configuration at hand.
        subject: What is measured, as the engine is given it.
        dense: Whether it is the unquantized model.
    """
    traits = find_engine(inputs.config.engine.name).traits
    if (own := traits.products) is not None:
        on_cpu = inputs.compute.device == "cpu"
        return own.quantized if not dense else own.dense_on_cpu if on_cpu else own.dense_on_gpu
    bits, narrow = inputs.config.bits, subject.format in traits.narrow_formats
    if not dense and narrow and bits.quantizes_activations:
        kind = "fp" if bits.activation.type.value == "float" else "int"
        return f"{kind}{bits.activation.num_bits}"
    dtype = inputs.compute.dtype_for(subject.dtype)
    return _FORMATS.get(dtype, dtype)
