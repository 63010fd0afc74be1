"""Bytes and bits per weight, read from real safetensors files."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from runner.metrics.tensors import DtypeShare, bits_per_weight, report_tensors

pytestmark = pytest.mark.unit

LAYER = "model.layers.0.mlp.down_proj"


def write(directory: Path, shards: list[dict[str, np.ndarray]]) -> Path:
    directory.mkdir()
    for number, tensors in enumerate(shards):
        save_file(tensors, directory / f"model-{number}.safetensors", metadata={"format": "pt"})
    return directory


@pytest.fixture
def model(tmp_path: Path) -> Path:
    matrix = np.zeros((8, 64), np.float16)
    return write(
        tmp_path / "model",
        [
            {f"{LAYER}.weight": matrix, "model.norm.weight": np.zeros(64, np.float32)},
            {"model.embed_tokens.weight": matrix},
        ],
    )


def test_report_counts_over_all_files(model: Path) -> None:
    report = report_tensors(model)
    assert report.by_dtype == {"F16": DtypeShare(2, 1024, 2048), "F32": DtypeShare(1, 64, 256)}
    assert (report.parameters, report.bytes) == (1088, 2304)


def test_report_of_a_directory_without_tensors(tmp_path: Path) -> None:
    assert report_tensors(tmp_path).bytes == 0


def test_scales_and_zero_points_count_and_untouched_matrices_do_not(
    model: Path, tmp_path: Path
) -> None:
    checkpoint = write(
        tmp_path / "checkpoint",
        [
            {
                # 512 weights of 4 bits in int32 words, a 16-bit scale for each group of 32.
                f"{LAYER}.weight_packed": np.zeros((8, 8), np.int32),
                f"{LAYER}.weight_scale": np.zeros((8, 2), np.float16),
                f"{LAYER}.weight_shape": np.zeros(2, np.int64),
                "model.norm.weight": np.zeros(64, np.float32),
                "model.embed_tokens.weight": np.zeros((8, 64), np.float16),
            }
        ],
    )
    packed, scales, shape = 8 * 8 * 32, 8 * 2 * 16, 2 * 64
    assert bits_per_weight(model, checkpoint) == (packed + scales + shape) / 512


def test_eight_bits_in_place(model: Path, tmp_path: Path) -> None:
    checkpoint = write(
        tmp_path / "checkpoint",
        [
            {
                f"{LAYER}.weight": np.zeros((8, 64), np.int8),
                f"{LAYER}.SCB": np.zeros(8, np.float32),
                "model.embed_tokens.weight": np.zeros((8, 64), np.float16),
            }
        ],
    )
    assert bits_per_weight(model, checkpoint) == 8 + 8 * 32 / 512


def test_a_layer_is_not_taken_for_one_whose_name_begins_alike(tmp_path: Path) -> None:
    matrix = np.zeros((4, 16), np.float16)
    model = write(tmp_path / "m", [{"a.1.weight": matrix, "a.10.weight": matrix}])
    checkpoint = write(
        tmp_path / "c", [{"a.1.weight": matrix.astype(np.int8), "a.10.weight": matrix}]
    )
    assert bits_per_weight(model, checkpoint) == 8


def test_a_model_that_was_not_quantized_has_the_bits_of_its_dtype(model: Path) -> None:
    assert bits_per_weight(model, model) == 8 * 2304 / 1088


def test_a_tied_head_that_is_not_stored_is_no_quantized_layer(model: Path, tmp_path: Path) -> None:
    checkpoint = write(
        tmp_path / "checkpoint",
        [
            {
                f"{LAYER}.weight": np.zeros((8, 64), np.int8),
                "model.norm.weight": np.zeros(64, np.float32),
            }
        ],
    )
    assert bits_per_weight(model, checkpoint) == 8
