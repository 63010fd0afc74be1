"""A checkpoint that was damaged after it was written is refused by its check; a sound one never."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from runner.config.schema.bits import Bits
from runner.config.schema.engine import Engine
from runner.config.schema.group_size import GroupSize
from runner.engines.loading import LoadRequest
from runner.errors import StageError
from runner.pipeline.stages.jobs.check import STAGE, CheckRequest, CheckResult
from runner.pipeline.worker.job import StageContext
from runner.util.serialise import from_json
from tests.integration.conftest import TINY, base_model, here, records

pytestmark = pytest.mark.integration

LAYER = "model.layers.{}.self_attn.o_proj"
Tensors = dict[str, torch.Tensor]


def scaled(tensors: Tensors) -> None:
    tensors[f"{LAYER.format(0)}.weight_scale"] *= 2


def halved(tensors: Tensors) -> None:
    tensors[f"{LAYER.format(1)}.weight_scale"] /= 2


def swapped(tensors: Tensors) -> None:
    for name in [name for name in tensors if name.startswith("model.layers.0.")]:
        other = name.replace("layers.0.", "layers.1.")
        tensors[name], tensors[other] = tensors[other], tensors[name]


def transposed(tensors: Tensors) -> None:
    """Of integers in words: rows as if they were columns."""
    name = f"{LAYER.format(0)}.weight_packed"
    packed = tensors[name]
    lanes = packed.view(torch.uint8)
    tensors[name] = lanes.flip(0).contiguous().view(torch.int32).reshape(packed.shape)


def other_embedding(tensors: Tensors) -> None:
    name = "model.embed_tokens.weight"
    tensors[name] = torch.randn_like(tensors[name]) * tensors[name].std()


DAMAGES = (scaled, halved, swapped, transposed, other_embedding)


@pytest.fixture(scope="module")
def made(
    shared_store: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """Records of 8-bit and 4-bit recipes of the tiny model."""
    done = here(
        *TINY, "-m", "method=rtn", "bits=w8a16,w4a16", "stages=[quantize]", "tracker=none",
        "sweep=for_damage", cwd=tmp_path_factory.mktemp("damage"), variables=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = records(shared_store, "for_damage")
    return {record["label"].split("-")[1]: record for record in found}


def check(store: Path, record: dict[str, Any], checkpoint: Path, place: Path) -> CheckResult:
    texts = (store / "objects" / "text").glob("*/documents.jsonl")
    request = CheckRequest(
        subject=LoadRequest(
            checkpoint, "compressed-tensors", Engine(name="hf"), "cpu", "float32", False
        ),
        model_directory=base_model(store, record),
        text_directory=max(texts, key=lambda path: path.stat().st_size).parent,
        bits=from_json(Bits, record["config"]["bits"]),
        group_size=from_json(GroupSize, record["config"]["group_size"]),
    )
    context = StageContext(place, place, place, 1, lambda *_: None, lambda load: load())
    return STAGE.run(request, context)


def written(store: Path, record: dict[str, Any]) -> Path:
    (stage,) = (entry for entry in record["stages"] if entry["stage"] == "quantize")
    return store / "objects" / "quantize" / stage["key"] / "checkpoint"


@pytest.mark.parametrize("bits", ["w8a16", "w4a16"])
def test_a_sound_checkpoint_passes_and_tells_its_divergence(
    bits: str, made: dict[str, dict[str, Any]], shared_store: Path
) -> None:
    (stage,) = (entry for entry in made[bits]["stages"] if entry["stage"] == "quantize")
    found = stage["result"]["check"]
    assert 0 < found["kl_divergence_nats"] < found["kl_divergence_limit_nats"] / 3


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("bits", ["w8a16", "w4a16"])
def test_a_damaged_checkpoint_is_refused(
    bits: str,
    damage: Callable[[Tensors], None],
    made: dict[str, dict[str, Any]],
    shared_store: Path,
    tmp_path: Path,
) -> None:
    copy = tmp_path / "checkpoint"
    shutil.copytree(written(shared_store, made[bits]), copy)
    tensors = load_file(copy / "model.safetensors")
    damage(tensors)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StageError, match="the checkpoint is broken"):
        check(shared_store, made[bits], copy, tmp_path)
