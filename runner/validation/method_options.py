"""Rules on single knobs of methods."""

import re
from collections.abc import Iterator

from runner.config.schema.bits import NumberType
from runner.config.schema.root import Config
from runner.validation.verdict import Verdict, illegal, warning

_ONLY = (
    ("true_sequential", True, ("auto_gptq", "gptqmodel"), "quantizes a whole block at once"),
    ("clip", True, ("autoawq",), "does not search narrower ranges"),
    ("zero_point", False, ("llm_compressor",), "packs weights with a zero point only"),
)
"""Values of knobs that some backends alone can carry out: knob, value, backends, why not."""

_WIDEST = 8
"""Bits of the widest integer grid."""


def check_knobs(config: Config) -> Iterator[Verdict]:
    """Findings on the method's own fields."""
    method = config.method
    sym = getattr(method, "sym", True)
    if not sym and config.bits.weight.type is not NumberType.int:
        yield illegal(
            f"{config.bits.label} has no zero point, so it cannot be asymmetric", "method.sym=true"
        )
    quant_type = getattr(method, "quant_type", None)
    if quant_type is not None:
        yield from _decided_by(quant_type.value, config)
    for knob, value, backends, why in _ONLY:
        if getattr(method, knob, None) == value and method.backend not in backends:
            yield illegal(
                f"method.{knob}={str(value).lower()}: backend {method.backend} {why}",
                f"method.backend={backends[0]}",
            )


def _decided_by(quant_type: str, config: Config) -> Iterator[Verdict]:
    """A GGUF type of another width than the bits: the type is made, tables sort by the bits."""
    (width,) = re.findall(r"^[A-Z]+(\d+)", quant_type)
    if int(width) != config.bits.weight.num_bits:
        nearest = f"bits=w{width}a16" if int(width) <= _WIDEST else None
        yield warning(
            f"method.quant_type={quant_type} decides what is made, not bits={config.bits.label}",
            nearest,
        )
