"""Rules on single options of methods."""

from collections.abc import Iterator

from runner.config.schema.bits import NumberType
from runner.config.schema.method import Method
from runner.config.schema.root import Config
from runner.config.schema.standard_formats import standard_name
from runner.methods import find_method
from runner.methods.base import ActivationScales
from runner.validation.verdict import Verdict, illegal, warning

_WIDEST = 8
"""Bits of the widest integer grid."""


def check_method_options(config: Config, device: str) -> Iterator[Verdict]:
    """Findings on the method's own fields, where it is to compute on ``cpu`` or ``cuda``."""
    method = config.method
    if (misfit := method.misfit(config.bits, config.group_size, device)) is not None:
        yield illegal(*misfit)
    zero_points = method.rounds_with_zero_points(config.bits)
    if zero_points and config.bits.weight.type is not NumberType.int:
        yield illegal(
            f"{config.bits.label} has no zero point, so it cannot be quantized asymmetrically",
            "method.sym=true" if hasattr(method, "sym") else "method.zero_point=null",
        )
    yield from _check_activation_scales(config)
    if (decided := method.decides_width()) is not None:
        yield from _decided_by(*decided, config)
    backends = find_method(method.name).backends
    for option, value, why in backends[method.backend].of(method).cannot:
        if getattr(method, option) != value:
            continue
        able = [
            name
            for name, one in backends.items()
            if (option, value) not in [cannot[:2] for cannot in one.of(method).cannot]
        ]
        others = [f"method.backend={name}" for name in able if name != method.backend]
        yield illegal(
            f"method.{option}={str(value).lower()}: backend {method.backend} {why}",
            _without_variant(method, option, value) or (others[0] if others else None),
        )


def _check_activation_scales(config: Config) -> Iterator[Verdict]:
    """Static scales where activations are scaled in blocks as they come."""
    bits, group_size = config.bits, config.group_size
    static = getattr(config.method, "activation_scales", None) is ActivationScales.static
    in_blocks = bits.weight.type is NumberType.float and group_size.is_sized
    if static and in_blocks and bits.quantizes_activations:
        yield illegal(
            f"{standard_name(bits, group_size) or bits.label} scales activations in blocks as they "
            "come, not by static scales",
            "method.activation_scales=dynamic",
        )


def _without_variant(method: Method, option: str, value: object) -> str | None:
    """The setting under which the method's backend can do what the chosen kind of file cannot."""
    variant = method.variant
    plain = find_method(method.name).backends[method.backend]
    if variant is None or plain.of(method) is plain:
        return None
    if (option, value) in [cannot[:2] for cannot in plain.cannot]:
        return None
    default = getattr(type(method)(name=method.name), variant[0])
    return f"method.{variant[0]}={getattr(default, 'value', default)}"


def _decided_by(setting: str, width: int, config: Config) -> Iterator[Verdict]:
    """An option of another width than the bits: it is made, tables sort by the bits."""
    if width != config.bits.weight.num_bits:
        yield warning(
            f"method.{setting} determines the format and contradicts bits={config.bits.label}",
            f"bits=w{width}a16" if width <= _WIDEST else None,
        )
