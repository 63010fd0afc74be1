"""Rules on method, bits and group size."""

from collections.abc import Iterator
from dataclasses import replace

from runner.config.schema.bits import Bits, NumberFormat, NumberType
from runner.config.schema.group_size import Granularity, GroupSize
from runner.config.schema.layer_format import LayerFormat
from runner.config.schema.root import Config, StageName
from runner.methods import all_methods, find_method, quantizing_methods
from runner.methods.base import Capabilities, bits_fit, group_size_fits
from runner.validation.calibration import check_calibration
from runner.validation.context import Facts
from runner.validation.layers import linear_inputs
from runner.validation.method_options import check_method_options
from runner.validation.mixed import check_mixed
from runner.validation.verdict import Severity, Verdict, illegal, warning

_WIDTHS = {
    NumberType.int: range(2, 9),
    NumberType.normal_float: (4,),
    NumberType.float: (4, 8, 16, 32),
    NumberType.bfloat: (16,),
}
_INT8 = 8
_USUAL_GROUPS = (256, 128, 64, 32, 16)


def check_recipe(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Findings on the recipe; none when the run does not quantize."""
    if StageName.quantize not in config.stages:
        return
    if not config.method.is_identity and facts.quantized_as:
        yield illegal(
            f"the model is already quantized ({facts.quantized_as}); quantizing it again would "
            "start from rounded weights",
            "stages=[eval,bench], or model.path of the unquantized model",
        )
        return
    backends = find_method(config.method.name).backends
    if config.method.backend not in backends:
        yield illegal(
            f"method={config.method.name} has no backend {config.method.backend}",
            " or ".join(f"method.backend={name}" for name in backends),
        )
        return
    capabilities = backends[config.method.backend].of(config.method)
    broken = list(_check_formats(config.bits))
    yield from broken
    if broken:
        return
    if config.bits.is_auto and not capabilities.mixes and capabilities.layer_types is None:
        yield from check_mixed(config, capabilities, facts)
    elif not config.bits.is_auto and not bits_fit(capabilities, config.bits):
        yield _bits_do_not_fit(config, capabilities)
    elif reason := capabilities.model_refusal(facts.text_config):
        yield illegal(reason, _makers_of_model(config, facts))
    else:
        yield from _check_details(config, capabilities, facts)


def _check_details(config: Config, capabilities: Capabilities, facts: Facts) -> Iterator[Verdict]:
    """What the backend could carry out, for all that is known of bits and model."""
    mixed = list(check_mixed(config, capabilities, facts))
    yield from mixed
    if not config.bits.is_auto:
        yield from _check_group_size(config, capabilities, facts)
    elif capabilities.layer_types is None and not any(
        verdict.severity is Severity.illegal for verdict in mixed
    ):
        yield from _check_candidates(config, capabilities, facts)
    yield from check_calibration(config, facts)
    yield from check_method_options(config, facts.device)


def _check_candidates(
    config: Config, capabilities: Capabilities, facts: Facts
) -> Iterator[Verdict]:
    """Every candidate of a budget, as if it were the recipe's only format."""
    for name in config.bits.candidates:
        found = LayerFormat.named(name, config.group_size)
        if found is None:
            continue
        alone = replace(config, bits=found.bits, group_size=found.group_size)
        if bits_fit(capabilities, alone.bits):
            verdicts = [
                *_check_group_size(alone, capabilities, facts),
                *check_method_options(alone, facts.device),
            ]
        else:
            verdicts = [_bits_do_not_fit(alone, capabilities)]
        for verdict in verdicts:
            if verdict.severity is Severity.illegal:
                others = ",".join(one for one in config.bits.candidates if one != name)
                yield illegal(f"candidate {name}: {verdict.reason}", f"bits.candidates=[{others}]")
                break


def _check_formats(bits: Bits) -> Iterator[Verdict]:
    for role, number in (("weight", bits.weight), ("activation", bits.activation)):
        widths = _WIDTHS[number.type]
        if number.num_bits not in widths:
            best = min(widths, key=lambda width: abs(width - number.num_bits))
            yield illegal(
                f"there is no {number.type.value} format of {number.num_bits} bits",
                f"bits.{role}.num_bits={best}",
            )
        elif _is_float8(number) and number.exponent_bits not in (4, 5):
            yield illegal(
                f"an 8-bit float has 4 or 5 exponent bits, not {number.exponent_bits}",
                f"bits.{role}.exponent_bits=4",
            )


def _is_float8(number: NumberFormat) -> bool:
    return number.type is NumberType.float and number.num_bits == 8


def _bits_do_not_fit(config: Config, capabilities: Capabilities) -> Verdict:
    name, label = config.method.name, config.bits.label
    makers = [
        other
        for other, method in all_methods().items()
        if any(label in able.bits for able in method.backends.values())
    ]
    nearest = f"bits={_nearest_bits(config.bits, capabilities)}"
    if makers:
        nearest += f", or method={' or method='.join(makers)} for {label}"
    through = "" if len(find_method(name).backends) == 1 else f" through {config.method.backend}"
    if config.method.is_identity:
        return illegal(
            f"method={name} does not quantize, so it cannot be combined with bits={label}", nearest
        )
    return illegal(
        f"method={name}{through} does not support {label}, only "
        f"{', '.join(dict.fromkeys(capabilities.bits))}",
        nearest,
    )


def _makers_of_model(config: Config, facts: Facts) -> str | None:
    """Backends of the method that can do the model, else other methods that can."""

    def can(able: Capabilities) -> bool:
        return bits_fit(able, config.bits) and able.model_refusal(facts.text_config) is None

    backends = find_method(config.method.name).backends
    if others := [f"method.backend={name}" for name, able in backends.items() if can(able)]:
        return " or ".join(others)
    able = [
        name
        for name, method in quantizing_methods().items()
        if any(map(can, method.backends.values()))
    ]
    return " or ".join(f"method={name}" for name in able) or None


def _nearest_bits(bits: Bits, capabilities: Capabilities) -> str:
    def distance(label: str) -> int:
        digits = [int(part) for part in "".join(c if c.isdigit() else " " for c in label).split()]
        return abs((digits or [16])[0] - bits.weight.num_bits)

    return min(capabilities.bits, key=distance)


def _check_group_size(
    config: Config, capabilities: Capabilities, facts: Facts
) -> Iterator[Verdict]:
    group_size, name = config.group_size, config.method.name
    if config.method.is_identity:
        return
    if group_size.is_sized and not (group_size.size or 0) > 0:
        kind = group_size.granularity.value
        nearest = "g64" if group_size.granularity is Granularity.group else "b128"
        yield illegal(
            f"group_size.granularity={kind} needs a positive size", f"group_size={nearest}"
        )
        return
    if not group_size.is_sized and group_size.size is not None:
        yield illegal(
            f"group_size.size={group_size.size} contradicts granularity "
            f"{group_size.granularity.value}",
            f"group_size=g{group_size.size} or group_size=per_{group_size.granularity.value}",
        )
        return
    if _is_int8(config.bits) and group_size.is_sized:
        yield illegal(
            f"{config.bits.label} multiplies {config.bits.activation.num_bits}-bit activations, "
            "which works only with per-channel or per-tensor scales, not for every "
            f"{group_size.size} inputs",
            "group_size=per_channel",
        )
        return
    if not group_size_fits(capabilities, config.bits, group_size):
        groups = capabilities.groups_for(config.bits)
        usual = [label.replace("g*", "g64").replace("b*", "b128") for label in groups]
        of = f" of {config.bits.label}" if config.bits.label in capabilities.group_sizes_of else ""
        yield illegal(
            f"method={name} does not support scales {group_size.label}{of}",
            " or ".join(f"group_size={label}" for label in reversed(usual)),
        )
        return
    if group_size.size is not None:
        yield from _check_divides(group_size, facts)
    if group_size.granularity is Granularity.tensor and config.bits.weight.num_bits <= 4:
        yield warning(
            f"one scale for a whole matrix at {config.bits.weight.num_bits} bits usually "
            "destroys a model",
            "group_size=g64",
        )


def _is_int8(bits: Bits) -> bool:
    """Whether products are those of 8-bit integers on both sides."""
    integers = bits.weight.type is NumberType.int and bits.activation.type is NumberType.int
    return integers and bits.activation.num_bits == _INT8 == bits.weight.num_bits


def _check_divides(group_size: GroupSize, facts: Facts) -> Iterator[Verdict]:
    inputs, size = linear_inputs(facts.architecture), group_size.size or 1
    bad = {layer: width for layer, width in inputs.items() if width % size}
    if not bad:
        return
    fitting = [g for g in _USUAL_GROUPS if all(width % g == 0 for width in inputs.values())]
    layers = ", ".join(f"{layer} ({width})" for layer, width in bad.items())
    letter = group_size.label[0]
    sizes = ", ".join(f"{letter}{g}" for g in fitting) or "no common size"
    nearest = min(fitting, key=lambda g: abs(g - size), default=None)
    yield illegal(
        f"{group_size.granularity.value} size {size} does not divide the inputs of {layers}; "
        f"sizes that fit: {sizes}",
        "group_size=per_channel" if nearest is None else f"group_size={letter}{nearest}",
    )
