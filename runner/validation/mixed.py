"""Rules on stage ``sensitivity`` and on recipes whose layers differ in width."""

from collections.abc import Iterator

from runner.config.schema.bits import NumberType
from runner.config.schema.group_size import Granularity, GroupSize
from runner.config.schema.layer_format import LayerFormat, is_unquantized
from runner.config.schema.root import Config, StageName
from runner.config.schema.sensitivity import LayerGranularity
from runner.methods.base import Capabilities, Holder
from runner.validation.context import Facts
from runner.validation.layers import linear_inputs
from runner.validation.verdict import Verdict, illegal, warning

_WIDTHS = range(2, 9)
_USUAL_GROUPS = (128, 64, 32, 16)


def check_mixed(config: Config, capabilities: Capabilities, facts: Facts) -> Iterator[Verdict]:
    """Findings on ``bits=auto`` and ``method.keep``; none on recipes of one width."""
    bits, method = config.bits, config.method
    mixes = bits.is_auto or method.keeps_layers
    has_types = capabilities.layer_types is not None
    if mixes and not capabilities.mixes and not (has_types and not method.keeps_layers):
        what = bits.label if bits.is_auto and not has_types else "method.keep"
        yield illegal(
            f"method={method.name} through {method.backend} gives all layers one width, but {what} "
            "needs several",
            "method=rtn or method=gptq",
        )
        return
    if mixes and facts.architecture.experts:
        refusals = list(_check_experts(config, capabilities))
        yield from refusals
        if refusals:
            return
    if bits.is_auto:
        yield from _check_budgets(config, facts)
    if bits.is_auto and not has_types:
        yield from _check_candidates(config)
    width = method.keep_bits
    if width is not None and width != 16 and width not in _WIDTHS:
        yield illegal(f"there is no integer format of {width} bits", "method.keep_bits=8")
    elif width is not None and not bits.is_auto and width <= bits.weight.num_bits:
        yield illegal(
            f"method.keep_bits={width} does not exceed the {bits.weight.num_bits} bits of all "
            "other layers",
            "method.keep_bits=null",
        )
    elif width is not None and not bits.is_auto and not bits.is_integer_weights_alone:
        yield illegal(
            f"method.keep_bits={width} is of integer weights alone, not of {bits.label}",
            "method.keep_bits=null",
        )
    if method.keep_most_sensitive > 0 and bits.weight.type is not NumberType.int:
        yield illegal(
            f"sensitivities are measured with integer rounding, but {bits.label} is not an integer "
            "format",
            "method.keep_most_sensitive=0",
        )
    if (bits.is_auto or method.keep_most_sensitive > 0) and _sees_the_test(config, facts):
        yield warning(
            f"the widths of layers are chosen on the evaluation text ({config.eval.text.name}); "
            "the recipe will look better than it is",
            "text@sensitivity.text=openwebtext text@eval.text=wikipedia",
        )


def check_sensitivity(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Findings on the sensitivity stage, asked for or needed by a recipe."""
    requested = StageName.sensitivity in config.stages
    needed = StageName.quantize in config.stages and (
        config.bits.is_auto or config.method.keep_most_sensitive > 0
    )
    if not requested and not needed:
        return
    section = config.sensitivity
    if facts.quantized_as:
        yield illegal(
            f"the model is already quantized ({facts.quantized_as}); sensitivity needs an "
            "unquantized one",
            "model.path of the unquantized model",
        )
    context = facts.architecture.context
    if context is not None and section.context_length > context:
        yield illegal(
            f"sensitivity.context_length={section.context_length} exceeds the model's context of "
            f"{context} tokens",
            f"sensitivity.context_length={context}",
        )
    if requested:
        yield from _check_grid(config, facts)


def _check_experts(config: Config, capabilities: Capabilities) -> Iterator[Verdict]:
    """Findings on a mixture of experts, whose experts transformers keeps in one parameter."""
    bits, method = config.bits, config.method
    if capabilities.layer_types is not None:
        yield from _check_typed_experts(config)
        return
    if Holder.experts not in (capabilities.holders or ()):
        yield illegal(
            f"method={method.name} through {method.backend} does not give experts formats of their "
            "own",
            "method=rtn or method=gptq",
        )
        return
    if method.has_zero_points:
        yield illegal(
            "transformers does not read experts back that have zero points", "method.sym=true"
        )
    names = [*bits.candidates] if bits.is_auto else []
    for name in names:
        found = LayerFormat.named(name, config.group_size)
        if found is not None and not _is_read_of_experts(found):
            rest = ",".join(one for one in names if one != name)
            yield illegal(
                f"candidate {name}: transformers does not read experts in {found.label} back; it "
                "reads integers with activations of 16 bits, and fp8_e4m3 per channel",
                f"bits.candidates=[{rest}]",
            )


def _check_typed_experts(config: Config) -> Iterator[Verdict]:
    """Findings on experts that a file has in one tensor a layer."""
    whole_blocks = config.sensitivity.granularity is LayerGranularity.block
    if config.bits.active_bytes is not None and whole_blocks:
        yield illegal(
            "bits.active_bytes needs the sensitivities of experts apart from the rest of a block, "
            "which sensitivity=block rounds together",
            "sensitivity=fused",
        )


def _is_read_of_experts(found: LayerFormat) -> bool:
    number = found.bits.weight
    if number.type is NumberType.int:
        return not found.bits.quantizes_activations
    whole = found.group_size.granularity in (Granularity.channel, Granularity.tensor)
    return number.type is NumberType.float and number.num_bits == 8 and whole


def _check_budgets(config: Config, facts: Facts) -> Iterator[Verdict]:
    bits = config.bits
    if bits.active_bytes is not None and not facts.architecture.experts:
        yield illegal(
            "bits.active_bytes is a budget of mixtures of experts; a token reads all of a dense "
            "model",
            f"bits.active_bytes=null bits.bytes={bits.active_bytes}",
        )
    if bits.average is not None and bits.active_bytes is not None:
        yield illegal(
            f"bits.average={bits.average:g} and bits.active_bytes={bits.active_bytes} are both "
            "set; beside bits.active_bytes set bits.bytes or nothing",
            "bits.average=null or bits.active_bytes=null",
        )
    if bits.average is not None and bits.bytes is not None:
        yield illegal(
            f"bits.average={bits.average:g} and bits.bytes={bits.bytes} are both set; set one "
            "budget",
            "bits.average=null or bits.bytes=null",
        )


def _check_candidates(config: Config) -> Iterator[Verdict]:
    bits = config.bits
    usual = "bits.candidates=[2,3,4,8,16]"
    named = [name for name in bits.candidates if not is_unquantized(name)]
    if wrong := [name for name in named if not _is_format(name, config.group_size)]:
        yield illegal(
            f"bits.candidates has {', '.join(wrong)}; integers have 2 to 8 bits, 16 leaves a layer "
            "unquantized, other formats are called as in conf/bits: nvfp4, fp8_e4m3, w4a16-g32",
            usual,
        )
        return
    if not named:
        yield illegal(f"bits.candidates=[{','.join(bits.candidates)}] quantizes nothing", usual)
        return
    if bits.average is not None and bits.average < bits.narrowest_bits:
        yield illegal(
            f"bits.average={bits.average:g} is below the narrowest of bits.candidates, "
            f"{bits.narrowest_bits}",
            f"bits.average={bits.narrowest_bits}",
        )


def _is_format(name: str, usual: GroupSize) -> bool:
    found = LayerFormat.named(name, usual)
    if found is None or found.bits.weight.type is not NumberType.int:
        return found is not None
    return found.bits.weight.num_bits in _WIDTHS


def _check_grid(config: Config, facts: Facts) -> Iterator[Verdict]:
    section = config.sensitivity
    wrong = [width for width in section.bits if width not in _WIDTHS]
    if wrong:
        yield illegal(
            f"sensitivity.bits={section.bits}: integers have 2 to 8 bits", "sensitivity.bits=[3,4]"
        )
    inputs = linear_inputs(facts.architecture)
    fitting = [g for g in _USUAL_GROUPS if not any(width % g for width in inputs.values())]
    nearest = f"sensitivity.group_sizes=[{f'g{fitting[0]}' if fitting else 'per_channel'}]"
    for label in section.group_sizes:
        group_size = GroupSize.named(label)
        size = group_size.size if group_size is not None else None
        if group_size is None or group_size.granularity is Granularity.block:
            yield illegal(
                f"sensitivity.group_sizes has {label}; use per_tensor, per_channel or groups such "
                "as g64",
                nearest,
            )
        elif size and (bad := [k for k, width in inputs.items() if width % size]):
            yield illegal(
                f"sensitivity.group_sizes has {label}, which does not divide the inputs of "
                f"{', '.join(bad)}",
                nearest,
            )


def _sees_the_test(config: Config, facts: Facts) -> bool:
    text = config.sensitivity.text
    return StageName.eval in config.stages and (text.name, text.path) in facts.evaluated_texts
