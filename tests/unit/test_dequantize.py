"""Packed integers of GPTQ and AWQ checkpoints against the plain formula."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.engines.hf.dequantize import dequantize, load_dense
from runner.errors import StageError

pytestmark = pytest.mark.unit

_INPUTS, _OUTPUTS, _GROUP = 64, 32, 32


def packed(values: np.ndarray, bits: int) -> np.ndarray:
    """Rows of integers as rows of words; Python's own integers do the shifting."""
    rows = []
    for row in values.tolist():
        stream = sum(value << (bits * place) for place, value in enumerate(row))
        count = len(row) * bits // 32
        rows.append([stream >> (32 * word) & 0xFFFFFFFF for word in range(count)])
    return np.array(rows, dtype=np.uint32).view(np.int32)


def layer(bits: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integers [inputs, outputs], zero points and scales [groups, outputs]."""
    random = np.random.default_rng(seed)
    integers = random.integers(0, 2**bits, (_INPUTS, _OUTPUTS))
    zeros = random.integers(0, 2**bits, (_INPUTS // _GROUP, _OUTPUTS))
    scales = random.uniform(0.01, 0.1, zeros.shape).astype(np.float16)
    return integers, zeros, scales


def dense(
    integers: np.ndarray, zeros: np.ndarray, scales: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    matrix: np.ndarray = (integers - zeros[groups]) * scales[groups].astype(np.float32)
    return matrix.T


def gptq_parts(
    bits: int, groups: np.ndarray | None, less: int, seed: int = 0
) -> tuple[dict[str, Any], np.ndarray]:
    import torch

    integers, zeros, scales = layer(bits, seed)
    stored = (zeros - less) % 2**bits
    parts = {
        "qweight": torch.from_numpy(packed(integers.T, bits).T.copy()),
        "qzeros": torch.from_numpy(packed(stored, bits)),
        "scales": torch.from_numpy(scales),
        "g_idx": None if groups is None else torch.from_numpy(groups.astype(np.int32)),
    }
    plain = np.arange(_INPUTS) // _GROUP if groups is None else groups
    return parts, dense(integers, zeros, scales, plain)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize(("layout", "less"), [("gptq", 1), ("gptq_v2", 0)])
@pytest.mark.parametrize("order", ["none", "plain", "shuffled"])
def test_gptq(bits: int, layout: str, less: int, order: str) -> None:
    groups = np.arange(_INPUTS) // _GROUP
    if order == "shuffled":
        groups = np.random.default_rng(1).permutation(groups)
    parts, expected = gptq_parts(bits, None if order == "none" else groups, less)
    config = {"bits": bits, "group_size": _GROUP, "checkpoint_format": layout}
    np.testing.assert_allclose(dequantize(parts, "gptq", config).numpy(), expected, rtol=1e-6)


def test_gptq_is_the_first_version_when_nothing_is_said() -> None:
    parts, expected = gptq_parts(4, None, 1)
    found = dequantize(parts, "gptq", {"bits": 4, "group_size": _GROUP})
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize(
    ("packing", "less"),
    [("auto_round", 0), ("auto_round:gptqmodel", 0), ("auto_round:auto_gptq", 1)],
)
def test_auto_round_packs_as_gptq_does(bits: int, packing: str, less: int) -> None:
    parts, expected = gptq_parts(bits, None, less)
    parts["scales"], expected = -parts["scales"], -expected  # a grid that reaches further up
    config = {"bits": bits, "group_size": _GROUP, "packing_format": packing}
    found = dequantize(parts, "auto-round", config)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("format", "config"),
    [
        ("awq", {"version": "GEMM"}),
        ("auto-round", {"packing_format": "auto_round:auto_awq"}),
    ],
)
def test_awq_for_matrix_products(format: str, config: dict[str, Any]) -> None:
    import torch

    integers, zeros, scales = layer(4)
    # What AutoAWQ puts first in a word is column 0, then 2, 4, 6, 1, 3, 5, 7.
    order = np.array([0, 2, 4, 6, 1, 3, 5, 7])
    columns = (np.arange(0, _OUTPUTS, 8)[:, None] + order).reshape(-1)
    parts = {
        "qweight": torch.from_numpy(packed(integers[:, columns], 4)),
        "qzeros": torch.from_numpy(packed(zeros[:, columns], 4)),
        "scales": torch.from_numpy(scales),
        "g_idx": None,
    }
    expected = dense(integers, zeros, scales, np.arange(_INPUTS) // _GROUP)
    found = dequantize(parts, format, {"bits": 4, "group_size": _GROUP, **config})
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_awq_for_matrix_vector_products() -> None:
    import torch

    integers, zeros, scales = layer(4)
    padding = ((0, 0), (0, 8 - len(zeros)))
    parts = {
        "qweight": torch.from_numpy(packed(integers.T, 4)),
        "qzeros": torch.from_numpy(packed(np.pad(zeros.T, padding), 4)),
        "scales": torch.from_numpy(np.pad(scales.T, padding)),
        "g_idx": None,
    }
    expected = dense(integers, zeros, scales, np.arange(_INPUTS) // _GROUP)
    found = dequantize(parts, "awq", {"bits": 4, "group_size": _GROUP, "version": "gemv"})
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("format", "config"),
    [
        ("gptq", {"checkpoint_format": "marlin"}),
        ("awq", {"version": "gemv_fast"}),
        ("auto-round", {"packing_format": "auto_round:fp8"}),
    ],
)
def test_other_layouts_are_refused(format: str, config: dict[str, Any]) -> None:
    with pytest.raises(StageError, match=next(iter(config.values()))):
        dequantize({}, format, config)


def test_a_packed_layer_without_its_zero_points_is_not_loaded(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig

    packing = {"quant_method": "gptq", "bits": 4, "group_size": _GROUP}
    LlamaConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, vocab_size=32, quantization_config=packing,
    ).save_pretrained(tmp_path)  # fmt: skip
    parts, _ = gptq_parts(4, None, 1)
    layer = "model.layers.0.mlp.up_proj"
    kept = {f"{layer}.{name}": parts[name].contiguous() for name in ("qweight", "scales")}
    save_file(kept, tmp_path / "model.safetensors")
    with pytest.raises(StageError, match=rf"lacks {layer}\.qzeros: download or create it again"):
        load_dense(tmp_path, "gptq", torch.float32)
