"""Layers of HQQ and torchao against the plain formula."""

import json
from typing import Any

import numpy as np
import pytest

from runner.engines.hf.hqq_layers import unpack_hqq
from runner.engines.hf.torchao_tensors import unpack_torchao
from runner.environments.patches.torchao_int4_without_mslk import int4_row_quantize_zp, pack_int4
from runner.errors import StageError

pytestmark = pytest.mark.unit

OUTPUTS, INPUTS, GROUP = 4, 64, 32
LAYER = "model.layers.0.mlp.up_proj"
PACKINGS = {8: ("8bit_u8", 1), 4: ("4bit_u8", 2), 3: ("3bit_32", 10), 2: ("2bit_u8", 4)}
PER_TOKEN = {"_type": "PerRow", "_data": {"dim": -1}}


def hqq_layer(bits: int, axis: int) -> tuple[dict[str, Any], np.ndarray]:
    """Tensors of a layer, integers put into words by Python, and its matrix."""
    import torch

    random = np.random.default_rng(bits)
    rows = (GROUP, OUTPUTS * INPUTS // GROUP)
    integers = random.integers(0, 2**bits, rows[::-1] if axis else rows)
    shared = (len(integers), 1) if axis else (1, integers.shape[1])
    scale = random.uniform(0.01, 0.1, shared).astype(np.float16)
    zero = random.uniform(0, 2**bits, shared).astype(np.float16)
    packing, together = PACKINGS[bits]
    padded = np.zeros((-(-len(integers) // together) * together, integers.shape[1]), np.int64)
    padded[: len(integers)] = integers
    words = sum(
        part << bits * (together - 1 - place)
        for place, part in enumerate(np.split(padded, together))
    )
    tensors = {
        "W_q": torch.from_numpy(np.asarray(words).astype(np.int32 if bits == 3 else np.uint8)),
        "scale": torch.from_numpy(scale),
        "zero": torch.from_numpy(zero),
        "shape": torch.tensor([OUTPUTS, INPUTS]),
        "group_size": torch.tensor(GROUP),
        "axis": torch.tensor(axis),
        "packing": torch.tensor(list(packing.encode()), dtype=torch.uint8),
        "bias": torch.zeros(OUTPUTS),
    }
    matrix = (integers - zero.astype(np.float32)) * scale.astype(np.float32)
    return {f"{LAYER}.{part}": tensor for part, tensor in tensors.items()}, matrix.reshape(
        OUTPUTS, INPUTS
    )


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("bits", PACKINGS)
def test_hqq_integers_of_every_width(bits: int, axis: int) -> None:
    tensors, matrix = hqq_layer(bits, axis)
    (layer,) = unpack_hqq(tensors).values()
    np.testing.assert_allclose(layer.weight.numpy(), matrix, rtol=1e-6)
    assert list(tensors) == [f"{LAYER}.bias"], "what is no part of the matrix stays"


def test_hqq_words_that_are_viewed_as_floats_are_the_same() -> None:
    import torch

    tensors, matrix = hqq_layer(4, 1)
    tensors[f"{LAYER}.W_q"] = tensors[f"{LAYER}.W_q"].view(torch.float16)
    (layer,) = unpack_hqq(tensors).values()
    np.testing.assert_allclose(layer.weight.numpy(), matrix, rtol=1e-6)


def test_hqq_layers_that_cannot_be_unpacked_are_refused() -> None:
    import torch

    tensors, _ = hqq_layer(4, 1)
    del tensors[f"{LAYER}.zero"]
    with pytest.raises(StageError, match=r"lacks .*up_proj\.zero"):
        unpack_hqq(tensors)
    tensors, _ = hqq_layer(4, 1)
    tensors[f"{LAYER}.packing"] = torch.tensor(list(b"5bit"), dtype=torch.uint8)
    with pytest.raises(StageError, match="packed as 5bit"):
        unpack_hqq(tensors)


def metadata(kind: str, parts: list[str], **data: Any) -> dict[str, str]:
    stated = {"_type": kind, "_data": data, "_tensor_data_names": parts}
    dense = {"_type": "Tensor"}
    return {
        "tensor_names": json.dumps([f"{LAYER}.weight", "norm.weight"]),
        f"{LAYER}.weight": json.dumps(stated),
        "norm.weight": json.dumps(dense),
    }


def int8_layer() -> tuple[dict[str, Any], Any]:
    import torch

    integers = torch.arange(-128, 128, dtype=torch.int8).reshape(OUTPUTS, INPUTS)
    scale, zero = torch.rand(OUTPUTS, 1), torch.tensor([[0], [1], [-2], [3]], dtype=torch.int8)
    tensors = {f"{LAYER}._weight_qdata": integers, f"{LAYER}._weight_scale": scale,
               f"{LAYER}._weight_zero_point": zero}  # fmt: skip
    return tensors, (integers.float() - zero) * scale


def test_torchao_integers_and_the_rounding_of_their_activations() -> None:
    import torch

    tensors, matrix = int8_layer()
    rounding = {"_type": "QuantizeTensorToInt8Kwargs", "_data": {"granularity": PER_TOKEN}}
    stated = metadata("Int8Tensor", ["qdata", "scale", "zero_point"], act_quant_kwargs=rounding)
    (layer,) = unpack_torchao(tensors, stated).values()
    assert torch.equal(layer.weight, matrix) and not tensors
    assert layer.round_activations is not None
    inputs = torch.tensor([[1.0, -3.0, 0.004], [100.0, 0.3, 0.5]])
    steps = inputs.abs().amax(-1, keepdim=True) / 127.5
    expected = (inputs / steps).round().clamp(-128, 127) * steps
    torch.testing.assert_close(layer.round_activations(inputs), expected)
    assert layer.round_activations(inputs)[1, 1] == 0, "a small one beside a large one is lost"


def test_torchao_four_bits_are_what_was_rounded() -> None:
    import torch

    weight = torch.randn(OUTPUTS, INPUTS)
    integers, scale, zero = int4_row_quantize_zp(weight, GROUP)
    tensors = {f"{LAYER}._weight_qdata": pack_int4(integers), f"{LAYER}._weight_scale": scale,
               f"{LAYER}._weight_zero_point": zero}  # fmt: skip
    stated = metadata("Int4Tensor", ["qdata", "scale", "zero_point"], block_size=[1, GROUP])
    (layer,) = unpack_torchao(tensors, stated).values()
    step = scale.t().repeat_interleave(GROUP, 1)
    assert (layer.weight - weight).abs().le(step / 2 + 1e-6).all()
    assert integers.min() == -8 and integers.max() == 7


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "MXTensor"}, "does not read torchao's MXTensor"),
        ({"act_quant_kwargs": {"_type": "QuantizeTensorToInt8Kwargs",
          "_data": {"granularity": {"_type": "PerTensor"}}}}, "token by token"),
        ({"act_quant_kwargs": {"_type": "QuantizeTensorToInt8Kwargs", "_data": {
          "granularity": PER_TOKEN, "mapping_type": {"_data": "ASYMMETRIC"}}}}, "around zero"),
        ({"activation_quantization": "int8_asym_per_token"}, "with rounded activations"),
        ({"parts": ["qdata", "scale", "zero_point", "other"]}, "lacks .*_weight_other"),
    ],
)  # fmt: skip
def test_what_engine_hf_would_read_wrongly_is_refused(change: dict[str, Any], said: str) -> None:
    tensors, _ = int8_layer()
    data = dict(change)
    kind = data.pop("kind", "Int8Tensor")
    parts = data.pop("parts", ["qdata", "scale", "zero_point"])
    with pytest.raises(StageError, match=said):
        unpack_torchao(tensors, metadata(kind, parts, **data))


def test_a_file_that_says_nothing_of_torchao_is_refused() -> None:
    with pytest.raises(StageError, match="say nothing of torchao's tensors"):
        unpack_torchao({}, {})
