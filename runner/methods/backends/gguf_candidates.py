"""Types of llama.cpp that tensors may get under a budget."""

from collections.abc import Collection

from runner.config.schema.bits import Bits
from runner.methods.backends.gguf_types import NEEDS_IMPORTANCE, TensorType

_BLOCKS = (TensorType.Q2_K, TensorType.Q3_K, TensorType.Q4_K, TensorType.Q5_K, TensorType.Q6_K)
"""Blocks of 256 weights."""
_SMALL_BLOCKS = (TensorType.IQ4_NL, TensorType.Q5_0, TensorType.Q5_1)
"""Blocks of 32 weights, for rows that blocks of 256 do not fit."""
_WITH_IMPORTANCE = (TensorType.IQ2_XXS, TensorType.IQ2_S, TensorType.IQ3_XXS)
_ALWAYS = (TensorType.Q8_0,)
_BLOCK = 256


def candidates_of(
    bits: Bits, widths: Collection[int], imatrix: bool, mixture: bool = False
) -> list[TensorType]:
    """Types to choose from: those that are named, or else the usual ones that fit some layer.

    Args:
        bits: With a budget. Candidates that are the default stand for the usual types.
        widths: Inputs of the model's matrices; empty if they are not known.
        imatrix: Whether there is an importance matrix.
        mixture: Whether there are experts, which none is measured for.
    """
    if names_types(bits):
        return [TensorType(name) for name in dict.fromkeys(bits.candidates)]
    usual = [*_ALWAYS]
    if not widths or any(width % _BLOCK == 0 for width in widths):
        usual += [*_BLOCKS, *(_WITH_IMPORTANCE if imatrix and not mixture else ())]
    if not widths or any(width % _BLOCK for width in widths):
        usual += _SMALL_BLOCKS
    return [kind for kind in TensorType if kind in usual]


def names_types(bits: Bits) -> bool:
    """Whether candidates are named; numbers of bits, the default, are no types."""
    return list(bits.candidates) != list(Bits().candidates)


def wrong_candidate(bits: Bits, imatrix: bool) -> tuple[str, str] | None:
    """What is wrong with a candidate, and the setting that is right; ``None`` if none is."""
    if not names_types(bits):
        return None
    usual = ",".join(one.value for one in candidates_of(Bits(), (), imatrix))
    known = [one.value for one in TensorType]
    for name in bits.candidates:
        if name not in known:
            return (
                f"bits.candidates has {name}; in a GGUF file they are llama.cpp's types: "
                f"{', '.join(known)}",
                f"bits.candidates=[{usual}]",
            )
        if TensorType(name) in NEEDS_IMPORTANCE and not imatrix:
            return (
                f"bits.candidates has {name}, which llama.cpp makes with an importance matrix "
                "alone",
                "method.imatrix=true calibration=bible",
            )
    return None
