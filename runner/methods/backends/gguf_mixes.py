"""Mixes of number formats that a GGUF file is quantized to."""

import re
from enum import Enum

from runner.methods.backends.gguf_types import NOT_FOR_EMBEDDINGS, TensorType, TypeChoice


class QuantType(Enum):
    """A mix of number formats, by llama.cpp's name; K, TQ and most IQ types have blocks of 256.

    MXFP4 and NVFP4 are no mixes of llama.cpp's: every layer gets the type, embeddings Q8_0. Left
    out are Q2_0, which the package ``gguf`` cannot read, and Q1_0, which it cannot dequantize.
    """

    Q8_0 = "Q8_0"
    Q6_K = "Q6_K"
    Q5_K_M = "Q5_K_M"
    Q5_K_S = "Q5_K_S"
    Q5_1 = "Q5_1"
    Q5_0 = "Q5_0"
    Q4_K_M = "Q4_K_M"
    Q4_K_S = "Q4_K_S"
    Q4_1 = "Q4_1"
    Q4_0 = "Q4_0"
    IQ4_NL = "IQ4_NL"
    IQ4_XS = "IQ4_XS"
    MXFP4 = "MXFP4"
    MXFP4_MOE = "MXFP4_MOE"
    NVFP4 = "NVFP4"
    Q3_K_L = "Q3_K_L"
    Q3_K_M = "Q3_K_M"
    Q3_K_S = "Q3_K_S"
    IQ3_M = "IQ3_M"
    IQ3_S = "IQ3_S"
    IQ3_XS = "IQ3_XS"
    IQ3_XXS = "IQ3_XXS"
    Q2_K = "Q2_K"
    Q2_K_S = "Q2_K_S"
    IQ2_M = "IQ2_M"
    IQ2_S = "IQ2_S"
    IQ2_XS = "IQ2_XS"
    IQ2_XXS = "IQ2_XXS"
    TQ2_0 = "TQ2_0"
    IQ1_M = "IQ1_M"
    IQ1_S = "IQ1_S"
    TQ1_0 = "TQ1_0"
    F16 = "F16"
    BF16 = "BF16"


FLOATS = (QuantType.F16, QuantType.BF16)
WHOLE = {QuantType.MXFP4: TensorType.MXFP4, QuantType.NVFP4: TensorType.NVFP4}
"""Types that are made by llama.cpp's patterns for tensors."""
NEED_IMPORTANCE = (
    QuantType.IQ3_XS,
    QuantType.IQ3_XXS,
    QuantType.Q2_K_S,
    QuantType.IQ2_M,
    QuantType.IQ2_S,
    QuantType.IQ2_XS,
    QuantType.IQ2_XXS,
    QuantType.IQ1_M,
    QuantType.IQ1_S,
)
"""Mixes with tensors that llama.cpp makes with an importance matrix alone."""


def uniform_choice(kind: TensorType) -> TypeChoice:
    """One type for every tensor whose rows fit its blocks, embeddings too if it can be theirs."""
    embeddings = TensorType.Q8_0 if kind in NOT_FOR_EMBEDDINGS else None
    return TypeChoice(
        QuantType.Q8_0.value,
        patterns={r"\.weight$": kind},
        input_embedding=embeddings,
        output_embedding=embeddings,
    )


def chosen_types(types: dict[str, TensorType]) -> TypeChoice:
    """Types tensor by tensor, under the mix that the type of most of them is named after."""
    found = [one.value for one in types.values()]
    most = max(sorted(set(found)), key=found.count)
    mixes = [one.value for one in QuantType if one.value in (most, f"{most}_M", f"{most}_S")]
    return TypeChoice(
        mixes[0] if mixes else QuantType.Q8_0.value,
        patterns={f"^{re.escape(name)}$": kind for name, kind in types.items()},
    )
