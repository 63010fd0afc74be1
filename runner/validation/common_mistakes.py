"""Common mistakes in quantization, each stated once, for recipes and for plans."""

import contextlib
from collections.abc import Iterator, Sequence

from runner.config.schema.bits import NumberType
from runner.config.schema.engine import Dtype
from runner.config.schema.hardware import Hardware
from runner.config.schema.kv_cache import USUAL_HEAD, KvCache
from runner.config.schema.plan import Plan
from runner.config.schema.root import Config, StageName
from runner.engines import find_engine
from runner.errors import UsageError
from runner.methods import capabilities_of
from runner.methods.base import Capabilities
from runner.planning.devices import device_names, read_device
from runner.planning.formats import Format
from runner.planning.hardware.detect import recognises
from runner.planning.model_shape import Shape
from runner.planning.roofline import arithmetic_used
from runner.planning.serving import serving
from runner.validation.context import Facts
from runner.validation.verdict import Verdict, warning

_ADA = (8, 9)
_NAMED = 4
"""Devices that a warning names."""
_INT8 = "bits=w8a8 method=smoothquant"
_EIGHT_BITS = "kv_cache=fp8_e4m3"
_SIXTEEN = ("bf16", "fp16", "fp32")


def check_common_mistakes(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Findings on what a recipe or a benchmark is usually misread as."""
    quantizes = config.makes_checkpoint
    if quantizes:
        yield from _recipe(config)
        yield from _fp8_before_ada(config, facts)
    if StageName.bench in config.stages:
        yield from _emulated(config, facts, quantizes)
        if quantizes:
            yield from _benched_cache(config, facts)
            yield from _beyond_the_turn(config, facts)
    if facts.stale_calibration:
        yield warning(facts.stale_calibration, "quantizing the base model again, stages=[quantize]")


def mistakes_of_plan(
    shape: Shape,
    formats: Sequence[Format],
    devices: Sequence[Hardware],
    plan: Plan,
    kv_cache: KvCache | None = None,
) -> Iterator[Verdict]:
    """Warnings on a plan's formats and devices, each once."""
    kv_bits = (kv_cache or KvCache()).bits(shape.head_dim or USUAL_HEAD)
    for fmt in formats:
        if fmt.arithmetic == "int8" and not fmt.outliers_apart:
            yield _outliers(f"{fmt.label} rounds activations: plain rounding (method=rtn)")
    if any(fmt.prior_bits == 4 and fmt.arithmetic in _SIXTEEN for fmt in formats):
        yield _no_int4_products("prefill and large batches gain nothing")
    lacking: dict[tuple[str, ...], list[str]] = {}
    for fmt in formats:
        if fmt.quantizes_activations:
            names = [
                device.name
                for device in devices
                if arithmetic_used(fmt, device) in (*_SIXTEEN, None)
                # What no engine reads there needs no word on how it would compute.
                and serving(fmt, device, shape).is_sure
            ]
            if len(names) > _NAMED:
                names = [*names[:_NAMED], f"{len(names) - _NAMED} more devices"]
            lacking.setdefault(tuple(names), []).append(fmt.label)
    for where, labels in lacking.items():
        yield from _without_units(" and ".join(labels), where)
    if low := [fmt.label for fmt in formats if fmt.prior_bits == 4 and fmt.weight_bits < 4]:
        yield _uniform_few_bits(", ".join(low))
    smallest = min(formats, key=lambda fmt: fmt.stored_bytes(shape), default=None)
    if smallest is not None and smallest.weight_bits < 16:
        yield from _cache_dominates(
            plan.concurrency,
            plan.context_length,
            cache=plan.concurrency * shape.kv_bytes(plan.context_length, kv_bits / 8),
            weights=smallest.stored_bytes(shape),
            dense=2.0 * shape.parameters,
            nearest=_EIGHT_BITS if kv_bits > 8 else None,
        )


def _outliers(subject: str) -> Verdict:
    return warning(
        f"{subject} collapses models whose activations have outliers (OPT-175B: 71.6% accuracy to "
        "32.3%, arXiv 2211.10438)",
        "method=smoothquant or method=gptq",
    )


def _uniform_few_bits(subject: str) -> Verdict:
    return warning(
        f"uniform {subject}: below 4 bits a few sensitive layers cause most of the loss; exclude "
        "them with method.ignore, or use more bits",
        "bits=w4a16, or a gguf type, which mixes widths",
    )


def _no_int4_products(consequence: str) -> Verdict:
    return warning(
        "4-bit weights are unpacked and multiplied in 16 bits: they save memory traffic, not "
        f"arithmetic, and no int4 matrix unit takes part; {consequence}"
    )


def _without_units(
    label: str, devices: Sequence[str], nearest: str | None = None
) -> Iterator[Verdict]:
    if where := ", ".join(devices):
        verb = "have" if len(devices) > 1 else "has"
        yield warning(
            f"{where} {verb} no matrix units for {label}: it saves memory and bandwidth there, but "
            "computes in 16 bits",
            nearest,
        )


def _cache_dominates(
    batch: int, tokens: int, *, cache: float, weights: float, dense: float, nearest: str | None
) -> Iterator[Verdict]:
    """Savings of weights taken for savings of memory; sizes in bytes, ``dense`` in 16 bits."""
    if cache > weights:
        yield warning(
            f"at batch {batch} x {tokens} tokens the KV cache ({_size(cache)}) is larger than the "
            f"quantized weights ({_size(weights)}): quantizing weights makes them "
            f"{dense / weights:.1f}x smaller, but the whole only "
            f"{(dense + cache) / (weights + cache):.1f}x",
            nearest,
        )


def _size(count: float) -> str:
    units = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
    name, size = next((one for one in units if count >= one[1]), units[-1])
    return f"{count / size:.1f} {name}"


def _recipe(config: Config) -> Iterator[Verdict]:
    bits, method = config.bits, config.method
    integer = bits.activation.type is NumberType.int
    if integer and bits.activation.num_bits == 4:
        yield warning(
            "4-bit integer activations gain no speed: engine hf rounds to them and multiplies in "
            "16 bits, and Hopper and Blackwell only emulate int4",
            "bits=w4a8",
        )
    if integer and bits.activation.num_bits == 8 and _capabilities(config).plain_rounding:
        yield _outliers(f"method={method.name} rounds activations to int8 as they come, which")
    plain = list(method.ignore) == type(method)(name=method.name).ignore
    if bits.weight.num_bits < 4 and not _capabilities(config).mixes_by_itself and plain:
        yield _uniform_few_bits(f"{bits.weight.num_bits}-bit weights")


def _capabilities(config: Config) -> Capabilities:
    """Of the recipe's method; none worth a word where another rule speaks about its backend."""
    with contextlib.suppress(UsageError):
        return capabilities_of(config.method)
    return Capabilities(bits=(), group_sizes=(), checkpoint_format="float", packages=())


def _fp8_before_ada(config: Config, facts: Facts) -> Iterator[Verdict]:
    """On the device that is named; on the machine's own GPU where none is."""
    bits, hardware = config.bits, config.hardware
    if bits.activation.type is not NumberType.float or bits.activation.num_bits != 8:
        return
    if not hardware.is_local:
        if "fp8" not in hardware.native_formats:
            instead = "int8" in hardware.native_formats
            yield from _without_units(bits.label, [hardware.name], _INT8 if instead else None)
        return
    if facts.device == "cpu":
        yield warning("this CPU has no 8-bit float arithmetic; fp8 saves memory here, not time")
        return
    for gpu in facts.gpus[:1]:
        major, _, minor = gpu.compute_capability.partition(".")
        if (int(major), int(minor or 0)) < _ADA:
            where = f"{gpu.name} (compute capability {gpu.compute_capability}, below 8.9)"
            yield from _without_units(bits.label, [where], _INT8)


def _emulated(config: Config, facts: Facts, quantizes: bool) -> Iterator[Verdict]:
    if facts.device != "cpu":
        return
    emulates = config.engine.dtype is Dtype.bfloat16 and not facts.machine.computes_bfloat16
    if emulates and find_engine(config.engine.name).traits.own_arithmetic is None:
        yield warning(
            "this CPU emulates bfloat16, so bench measures the emulation and not the speed of a "
            "device",
            "engine.dtype=float32",
        )
    if quantizes and (emulated := _capabilities(config).emulated_on_cpus):
        yield warning(
            f"{emulated} are emulated on CPUs, so bench measures the unpacking, which does not "
            "predict a GPU",
            "stages=[quantize,eval]",
        )


def _benched_cache(config: Config, facts: Facts) -> Iterator[Verdict]:
    bench = config.bench
    with contextlib.suppress(UsageError):  # dimensions that are not known
        shape = Shape(facts.architecture)
        batch, tokens = max(bench.batch_sizes, default=0), bench.prompt_tokens + bench.new_tokens
        yield from _cache_dominates(
            batch,
            tokens,
            cache=batch
            * shape.kv_bytes(tokens, config.kv_cache.bits(shape.head_dim or USUAL_HEAD) / 8),
            weights=shape.linear_weights * config.bits.weight.num_bits / 8,
            dense=2.0 * shape.linear_weights,
            nearest=None,
        )


def _beyond_the_turn(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Batches so large that arithmetic, not memory, is what takes the time."""
    bits = config.bits
    if bits.weight.num_bits > 4 or bits.quantizes_activations or facts.device != "cuda":
        return
    for name in device_names():
        device = read_device(name)
        peak = device.peak_teraflops.get("bf16") or device.peak_teraflops.get("fp16")
        bandwidth = device.memory_bandwidth_gigabytes_per_second
        if not recognises(device, facts.machine.using(facts.gpus)) or not peak or not bandwidth:
            continue
        turn = peak * 1e12 * bits.weight.num_bits / 8 / (2 * bandwidth * 1e9)
        if max(config.bench.batch_sizes, default=0) > turn:
            yield _no_int4_products(
                f"beyond a batch of about {turn:.0f} {name} is busy with arithmetic, and they make "
                "nothing faster"
            )
        return
