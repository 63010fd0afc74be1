"""How far a sound checkpoint can be from its model: separates broken from coarse.

The limits are generous: no recipe measured comes within a factor of three of them. What they have
to catch is far beyond: a head that was never loaded, layers swapped, a matrix transposed (2 nats
and more where a model knows something), scales off by a factor of two.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runner.config.schema.bits import Bits
from runner.config.schema.group_size import Granularity, GroupSize

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Responses = Mapping[str, NDArray[np.float32]]

_LEAST_WIDTH = 4
"""Fewer bits, or one 4-bit scale for a whole matrix, destroy a model rightly."""
_MOST_RATIO = 10.0
"""Perplexity against the unquantized model. The worst measured is 2.0, of a model of 135 million
parameters (round to nearest, 4 bits, one scale a channel)."""
_MOST_KL_NATS = {4: 3.0, 5: 1.5, 6: 0.5}
"""KL(unquantized || recipe), mean over tokens. The worst measured is 0.98 at 4 bits (the
zoo's Granite, whose random logits are far apart: MXFP4), usually it is under 0.5."""
_MOST_KL_OF_CHANNELS_NATS = 4.0
"""4 bits with one scale a channel."""
_MOST_KL_ABOVE_NATS = 0.3
"""7 bits and more; the worst measured is 0.03."""
_MOST_KL_OF_ACTIVATIONS_NATS = 2.0
"""Where activations are rounded to 8 bits too: outliers cost more than weights do."""
_NARROW_ACTIVATIONS = 8
"""Bits of activations below which no limit is known."""
_LEAST_COSINE = {4: 0.7, 5: 0.85, 6: 0.9}
"""Of a matrix's product with a random vector, before and after. Rounding with a relative error e
leaves 1 / sqrt(1 + e^2): 0.98 at 4 bits with e = 0.2."""
_LEAST_COSINE_ABOVE = 0.95
_MOST_SCALE = math.sqrt(2)
"""Factor between these products, up or down."""


def weight_width(bits: Bits, stored_bits: float | None) -> int:
    """Bits of the narrowest weights, of which a recipe's limits follow.

    Args:
        bits: Of the recipe.
        stored_bits: Of the checkpoint's coarsest part, scales included, where it is known: GGUF
            types are chosen by name.
    """
    width = bits.narrowest_bits
    return width if stored_bits is None else min(width, int(stored_bits))


def most_ratio(width: int, bits: Bits, group_size: GroupSize) -> float:
    """Perplexity ratio beyond which a checkpoint is broken rather than coarse.

    Activations of 4 bits destroy small models rightly: SmolLM2-135M, rotated and per token, by 50.
    """
    narrow = bits.narrowest_activation_bits < _NARROW_ACTIVATIONS
    return math.inf if narrow or _is_coarse(width, group_size) else _MOST_RATIO


def most_kl_divergence(width: int, bits: Bits, group_size: GroupSize) -> float:
    """KL divergence in nats beyond which a checkpoint is broken rather than coarse."""
    if _is_coarse(width, group_size):
        return math.inf
    limit = _MOST_KL_NATS.get(width, _MOST_KL_ABOVE_NATS)
    if width == _LEAST_WIDTH and group_size.granularity is Granularity.channel:
        limit = _MOST_KL_OF_CHANNELS_NATS
    if bits.quantizes_activations:
        narrow = bits.narrowest_activation_bits < _NARROW_ACTIVATIONS
        limit = math.inf if narrow else max(limit, _MOST_KL_OF_ACTIVATIONS_NATS)
    return limit


def broken_layers(
    dense: "Responses", own: "Responses", width: int, group_size: GroupSize
) -> list[str]:
    """Layers whose products are not near the unquantized model's, each with what is wrong.

    Args:
        dense: Products of the unquantized model's matrices with random vectors, by layer.
        own: The checkpoint's.
        width: Of ``weight_width``.
        group_size: Of the recipe.
    """
    import numpy as np

    if _is_coarse(width, group_size):
        return []
    least = _LEAST_COSINE.get(width, _LEAST_COSINE_ABOVE)
    broken = []
    for name, expected in dense.items():
        response: Any = own.get(name)
        if response is None:
            continue
        if response.shape != expected.shape:
            broken.append(f"{name} (transposed, or another shape)")
            continue
        norms = float(np.linalg.norm(expected)), float(np.linalg.norm(response))
        if not min(norms):
            if max(norms):
                broken.append(f"{name} (zero in one of the two)")
            continue
        cosine = float(expected @ response) / (norms[0] * norms[1])
        scale = norms[1] / norms[0] * cosine
        if not cosine >= least:
            broken.append(f"{name} (cosine {cosine:.2f})")
        elif not 1 / _MOST_SCALE <= scale <= _MOST_SCALE:
            broken.append(f"{name} (scaled by {scale:.2f})")
    return broken


def _is_coarse(width: int, group_size: GroupSize) -> bool:
    whole = group_size.granularity is Granularity.tensor
    return width < _LEAST_WIDTH or (width == _LEAST_WIDTH and whole)
