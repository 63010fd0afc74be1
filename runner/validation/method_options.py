"""Rules on single options of methods."""

from collections.abc import Iterator

from runner.config.schema.bits import NumberType
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
    for option, value, why in backends[method.backend].cannot:
        if getattr(method, option) != value:
            continue
        able = [
            name
            for name, one in backends.items()
            if (option, value) not in [cannot[:2] for cannot in one.cannot]
        ]
        yield illegal(
            f"method.{option}={str(value).lower()}: backend {method.backend} {why}",
            f"method.backend={able[0]}" if able else None,
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


def _decided_by(setting: str, width: int, config: Config) -> Iterator[Verdict]:
    """An option of another width than the bits: it is made, tables sort by the bits."""
    if width != config.bits.weight.num_bits:
        yield warning(
            f"method.{setting} determines the format and contradicts bits={config.bits.label}",
            f"bits=w{width}a16" if width <= _WIDEST else None,
        )
