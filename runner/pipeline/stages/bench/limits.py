"""Limits that speeds are compared with: the device's, the dtype's and the format's."""

from runner.config.schema.hardware import Hardware
from runner.engines import find_engine
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
    """The measured limits, and the published ones where the table lists the device."""
    found = HARDWARE.of_machine(inputs).known
    measured = Limits("measured", None)
    if found is not None:
        measured = Limits("measured", found.bandwidth_bytes_per_second, found.peak_teraflops)
    listed: Hardware | None = inputs.config.hardware
    if listed is None or listed.is_local:
        on_gpu = inputs.compute.device == "cuda"
        listed = published_device(inputs.machine) if on_gpu else None
    if listed is None:
        return [measured]
    gigabytes = listed.memory_bandwidth_gigabytes_per_second
    bandwidth = None if gigabytes is None else gigabytes * 1e9
    return [measured, Limits(listed.name, bandwidth, dict(listed.peak_teraflops))]


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
