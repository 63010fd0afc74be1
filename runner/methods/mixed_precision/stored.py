"""Bytes that a layer takes in a compressed-tensors checkpoint, by its format."""

from runner.config.schema.bits import NumberType
from runner.config.schema.group_size import Granularity
from runner.config.schema.layer_format import LayerFormat

_NVFP4_GROUP = 16
_WORD_BYTES = 4


def stored_bytes(shape: tuple[int, int], stored: LayerFormat | None, sym: bool) -> int:
    """Size of a layer's weights, scales and zero points, as compressed-tensors lays them out.

    Integers that stand alone, and narrow ones, are packed into words of 32 bits a row: 16 bytes
    tell the shape, zero points are packed along the outputs. Floats of 4 bits lie two to a byte.

    Args:
        shape: Outputs and inputs.
        stored: ``None`` for a layer that stays in 16 bits.
        sym: A grid of integers without zero points.
    """
    outputs, inputs = shape
    if stored is None:
        return 2 * outputs * inputs
    number, group_size = stored.bits.weight, stored.group_size
    scales = _scales(shape, stored)
    if number.type is NumberType.int:
        if number.num_bits == 8 and stored.bits.quantizes_activations:
            return outputs * inputs + 2 * scales
        packed = outputs * _words(inputs * number.num_bits)
        zero_points = 0 if sym else _zero_points(scales, outputs, number.num_bits)
        return packed + 2 * scales + zero_points + 16
    weights = outputs * inputs * number.num_bits // 8
    if group_size.granularity is not Granularity.group:
        return weights + 2 * scales
    if number.num_bits == 4 and group_size.size == _NVFP4_GROUP:
        # One scale of the whole matrix, and one of its inputs where those are rounded.
        return weights + scales + 4 * (2 if stored.bits.quantizes_activations else 1)
    return weights + scales


def _scales(shape: tuple[int, int], stored: LayerFormat) -> int:
    outputs, inputs = shape
    size = stored.group_size.size or inputs
    if stored.group_size.granularity is Granularity.block:
        return -(-outputs // size) * -(-inputs // size)
    if stored.group_size.granularity is Granularity.tensor:
        return 1
    return outputs * -(-inputs // size)


def _zero_points(scales: int, outputs: int, num_bits: int) -> int:
    """Packed along the outputs; the only one of a whole matrix is a byte."""
    return 1 if scales == 1 else scales // outputs * _words(outputs * num_bits)


def _words(bits: int) -> int:
    return _WORD_BYTES * -(-bits // (8 * _WORD_BYTES))
