"""Models and texts on disk, before any work: what their files say counts."""

import json
import shutil
import struct
from pathlib import Path

import pytest

from runner.config.compose import quoted
from runner.errors import UsageError
from runner.planning.hardware.detect import Machine
from tests.unit.judging import Compose, applied, illegal_ones, judge

pytestmark = pytest.mark.unit


@pytest.fixture
def quantized(tmp_path: Path) -> Path:
    """A model directory that says it is quantized, with a safetensors file of no tensors."""
    directory = tmp_path / "quantized"
    directory.mkdir()
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        "quantization_config": {"quant_method": "compressed-tensors"},
    }
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    return directory


def test_a_quantized_model_is_not_quantized_again(
    quantized: Path, composed: Compose, cpu: Machine
) -> None:
    overrides = ["model=local", f"model.path={quoted(quantized)}", "eval=quick", "bench=quick"]
    (found,) = illegal_ones(judge(composed, cpu, overrides))
    assert "already quantized (compressed-tensors)" in found.reason
    better = applied(overrides, found.nearest or "")
    assert "stages=[eval,bench]" in better
    assert judge(composed, cpu, better) == []


def test_a_local_models_own_dimensions_count(
    quantized: Path, composed: Compose, cpu: Machine
) -> None:
    overrides = ["model=local", f"model.path={quoted(quantized)}", "stages=[eval]"]
    (found,) = illegal_ones(judge(composed, cpu, overrides))
    assert "context of 256 tokens" in found.reason


def test_a_format_the_engine_does_not_read(
    quantized: Path, composed: Compose, cpu: Machine
) -> None:
    config_file = quantized / "config.json"
    config_file.write_text(config_file.read_text().replace("compressed-tensors", "exotic"))
    overrides = ["model=local", f"model.path={quoted(quantized)}", "stages=[eval]", "eval=quick"]
    (found,) = illegal_ones(judge(composed, cpu, overrides))
    assert "engine=hf does not read exotic checkpoints" in found.reason


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.path=/nowhere", "is not a directory"),
        ("calibration.text.path=/nowhere", "there is no file /nowhere"),
    ],
)
def test_files_that_are_not_there(
    override: str, said: str, composed: Compose, cpu: Machine
) -> None:
    group = override.partition(".")[0]
    with pytest.raises(UsageError, match=said):
        judge(composed, cpu, [f"{group}=local", override])


def test_texts_are_the_same_by_content_not_by_name(
    tmp_path: Path, composed: Compose, cpu: Machine
) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
        (folder / "mine.txt").write_text(f"the text of {folder.name} " * 2000)
    shutil.copy(folders[0] / "mine.txt", tmp_path / "copy.txt")

    def said(calibration: Path, evaluated: Path, *more: str) -> list[str]:
        overrides = [
            "calibration=local", f"calibration.text.path={quoted(calibration)}",
            "text@eval.text=local", f"eval.text.path={quoted(evaluated)}", *more,
        ]  # fmt: skip
        return [str(v) for v in judge(composed, cpu, overrides) if "same text" in str(v)]

    mine, other = (folder / "mine.txt" for folder in folders)
    assert said(mine, other) == [], "one name, two texts"
    (copied,) = said(mine, tmp_path / "copy.txt")
    assert "(mine.txt is copy.txt)" in copied
    (itself,) = said(mine, mine)
    assert "same text (mine.txt)" in itself
    assert said(folders[0], mine), "a folder that holds it alone"
    assert said(mine, mine, "eval.text.documents=3", "calibration.skip_documents=2")
    assert not said(mine, mine, "eval.text.documents=3", "calibration.skip_documents=3")
    # The windows of protocol spread come from all of the text.
    assert said(mine, mine, "calibration.skip_tokens=8192")
    assert not said(mine, mine, "calibration.skip_tokens=8192", "eval.protocols=[gptq]")
