"""Tensors that are not quantized keep the type they came in, in every format that is written."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from runner.data.models.kept_dtypes import KeptDtypes
from runner.methods.backends.llm_compressor import store_as_came
from runner.methods.backends.packed import write_checkpoint

pytestmark = pytest.mark.unit

NORM, ROUTER, HEAD, MATRIX = "norm.weight", "router.weight", "lm_head.weight", "down_proj.weight"


def write(directory: Path, tensors: dict[str, torch.Tensor]) -> Path:
    directory.mkdir(exist_ok=True)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text("{}")
    return directory


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Of bfloat16, with a norm and a router of float32 that bfloat16 cannot hold."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    wide = {NORM: draw(8), ROUTER: draw(4, 8)}
    narrow = {HEAD: draw(32, 8).bfloat16(), MATRIX: draw(32, 8).bfloat16()}
    return write(tmp_path / "model", wide | narrow)


def written(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def as_came(model: Path, checkpoint: Path) -> None:
    originals, found = written(model), written(checkpoint)
    for name in (NORM, ROUTER, HEAD):
        assert found[name].dtype == originals[name].dtype
        assert torch.equal(found[name], originals[name])


def test_what_was_held_in_float32_is_stored_as_it_came(model: Path, tmp_path: Path) -> None:
    wide = {name: tensor.float() for name, tensor in written(model).items() if name != MATRIX}
    wide |= {
        "down_proj.weight_packed": torch.zeros(4, 4, dtype=torch.int32),
        "down_proj.weight_scale": torch.ones(32, 1),
        "down_proj.weight_global_scale": torch.ones(1),
    }
    checkpoint = write(tmp_path / "checkpoint", wide)
    store_as_came(checkpoint, KeptDtypes(model))
    as_came(model, checkpoint)
    found = written(checkpoint)
    assert found["down_proj.weight_scale"].dtype is torch.bfloat16
    assert found["down_proj.weight_global_scale"].dtype is torch.float32


def test_what_was_cast_on_loading_is_brought_back(model: Path, tmp_path: Path) -> None:
    cast = {name: tensor.bfloat16() for name, tensor in written(model).items() if name != MATRIX}
    quantized = {MATRIX: torch.zeros(8, 8, dtype=torch.uint8), "down_proj.SCB": torch.ones(8)}
    checkpoint = write(tmp_path / "checkpoint", cast | quantized)
    KeptDtypes(model).bring_back(checkpoint)
    as_came(model, checkpoint)
    assert torch.equal(written(checkpoint)[MATRIX], quantized[MATRIX])


@pytest.mark.parametrize("held", [torch.float32, torch.bfloat16])
def test_packed_formats_keep_types(model: Path, tmp_path: Path, held: torch.dtype) -> None:
    (tmp_path / "checkpoint").mkdir()
    job: Any = SimpleNamespace(model_directory=model, checkpoint_directory=tmp_path / "checkpoint")
    tensors = {name: t.to(held) for name, t in written(model).items() if name != MATRIX}
    scales = {"down_proj.scales": torch.ones(1, 32), "down_proj.bias": torch.ones(32)}
    write_checkpoint(job, tensors | scales, {"quant_method": "gptq"})
    found = written(tmp_path / "checkpoint")
    assert {name: found[name].dtype for name in found} == {
        NORM: torch.float32, ROUTER: torch.float32, HEAD: torch.bfloat16,
        "down_proj.scales": torch.float16, "down_proj.bias": torch.bfloat16,
    }  # fmt: skip
    config = json.loads((tmp_path / "checkpoint" / "config.json").read_text())
    assert config["quantization_config"] == {"quant_method": "gptq"}
