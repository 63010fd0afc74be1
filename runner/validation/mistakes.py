"""The mistakes people make in this field, where a plan invites them."""

from collections.abc import Iterator, Sequence

from runner.config.schema.hardware import Hardware
from runner.config.schema.plan import Plan
from runner.planning.formats import Format
from runner.planning.model_shape import Shape
from runner.planning.roofline import arithmetic_used
from runner.validation.verdict import Verdict, warning

_SIXTEEN = ("bf16", "fp16", "fp32")


def mistakes_of(
    shape: Shape, formats: Sequence[Format], devices: Sequence[Hardware], plan: Plan
) -> Iterator[Verdict]:
    """Warnings on a plan's formats and devices, each once."""
    labels = [fmt.label for fmt in formats]
    if "w8a8" in labels:
        yield warning(
            "w8a8 rounds activations: plain rounding (method=rtn) collapses models whose "
            "activations have outliers (OPT-175B: 71.6% accuracy to 32.3%, arXiv 2211.10438)",
            "method=smoothquant or method=gptq for it",
        )
    if any(_four_bits_in_sixteen(fmt) for fmt in formats):
        yield warning(
            "4-bit weights are unpacked and multiplied in 16 bits: they save memory traffic, not "
            "arithmetic, and no int4 matrix unit takes part; prefill and large batches gain nothing"
        )
    for fmt in formats:
        if not fmt.quantizes_activations:
            continue
        without = [
            device.name for device in devices if arithmetic_used(fmt, device) in (*_SIXTEEN, None)
        ]
        if without:
            yield warning(
                f"{', '.join(without)} has no matrix units for {fmt.label}: it saves memory and "
                "bandwidth there, but computes in 16 bits"
            )
    if low := [fmt.label for fmt in formats if fmt.prior_bits == 4 and fmt.weight_bits < 4]:
        yield warning(
            f"{', '.join(low)} treats all layers alike, and below 4 bits a few of them "
            "lose most of the quality",
            "method.ignore for the most sensitive layers, or a gguf type, which mixes widths",
        )
    yield from _cache_dominates(shape, formats, plan)


def _four_bits_in_sixteen(fmt: Format) -> bool:
    return fmt.prior_bits == 4 and fmt.arithmetic in _SIXTEEN


def _cache_dominates(shape: Shape, formats: Sequence[Format], plan: Plan) -> Iterator[Verdict]:
    """Savings of weights told as if they were savings of memory."""
    smallest = min(formats, key=lambda fmt: fmt.stored_bytes(shape), default=None)
    if smallest is None or smallest.weight_bits >= 16:
        return
    cache = plan.batch * shape.kv_bytes(plan.context_length, plan.kv_cache_bits / 8)
    weights = smallest.stored_bytes(shape)
    dense = 2.0 * shape.parameters
    if cache > weights:
        yield warning(
            f"{plan.batch} sequences of {plan.context_length} tokens hold {cache / 1e9:.1f} GB of "
            f"KV cache, more than the {weights / 1e9:.1f} GB of {smallest.label} weights: "
            f"quantizing weights makes them {dense / weights:.1f}x smaller, but the whole only "
            f"{(dense + cache) / (weights + cache):.1f}x",
            "plan.kv_cache_bits=8",
        )
