"""Tensors and bytes, read from real safetensors files."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from runner.data.models.tensors import DtypeShare, report_tensors

pytestmark = pytest.mark.unit

LAYER = "model.layers.0.mlp.down_proj"


def write(directory: Path, shards: list[dict[str, np.ndarray]]) -> Path:
    directory.mkdir()
    weight_map = {}
    for number, tensors in enumerate(shards):
        save_file(tensors, directory / f"model-{number}.safetensors", metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, f"model-{number}.safetensors")
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
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
