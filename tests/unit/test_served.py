"""Checkpoints of rows, and the commands that serve them."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from runner.engines import find_engine
from runner.engines.planned import Measured, ServedEngine
from runner.reporting.row import Row
from runner.reporting.served import add_checkpoint, served_lines
from runner.store.placement import Placement
from runner.store.records import RunRecord, StageRecord, Status, read_record, write_record

pytestmark = pytest.mark.unit

KEY = "0123456789abcdef0123"


def command(engine: str, checkpoint: str = "/c", **fields: Any) -> str | None:
    """What serves a checkpoint; ``config``, ``programs``, ``device`` and ``dtype`` may be given."""
    implementation = find_engine(engine)
    assert isinstance(implementation, ServedEngine)
    names = ("config", "programs", "device", "dtype", "trust_remote_code")
    given = {name: fields.pop(name) for name in names if name in fields}
    settings = implementation.config(name=engine, **fields)
    usual: dict[str, Any] = {
        "device": "cuda", "dtype": "auto", "programs": None, "trust_remote_code": False,
        "config": {"model_type": "llama"},
    }  # fmt: skip
    return implementation.serve_measured(
        Measured(checkpoint=Path(checkpoint), settings=settings, **{**usual, **given})
    )


def test_vllm_serves_with_the_settings_that_were_measured() -> None:
    assert command("vllm") == ("vllm serve /c --gpu-memory-utilization 0.9 --max-model-len auto")
    line = command(
        "vllm", "/a b", tensor_parallel_size=2, max_model_len=4096, kv_cache_bytes=5,
        quantization="fp8", enforce_eager=True, dtype="float16", trust_remote_code=True,
    )  # fmt: skip
    assert shlex.split(line or "") == (
        "vllm serve /a#b --tensor-parallel-size 2 --max-model-len 4096 --kv-cache-memory-bytes 5 "
        "--dtype float16 --quantization fp8 --enforce-eager --trust-remote-code"
    ).replace(" ", "\n").replace("#", " ").split("\n")


def test_vllm_on_a_cpu_takes_a_share_of_memory_that_is_there() -> None:
    line = command("vllm", device="cpu", programs=Path("/env/bin"))
    assert line == (
        "VLLM_CPU_INT4_W4A8=0 /env/bin/python -m vllm.entrypoints.openai.api_server --model /c "
        f"--max-model-len auto --kv-cache-memory-bytes {1 << 30}"
    )


def test_llama_cpp_serves_files_alone() -> None:
    assert command("llama_cpp", "/c/m.gguf", config={}) == "llama-server -m /c/m.gguf -ngl 99"
    assert command("llama_cpp", "/c/m.gguf", config={}, device="cpu", context_length=512,
                   programs=Path("/my env/bin")) == (
        "'/my env/bin/python' -m llama_cpp.server --model /c/m.gguf --n_ctx 512 --n_gpu_layers 0"
    )  # fmt: skip
    assert command("llama_cpp", "/c") is None
    assert command("vllm", "/c/m.gguf", config={}) is None


@pytest.mark.parametrize(
    ("quantization", "reads"),
    [({}, True), ({"quant_method": "compressed-tensors"}, True), ({"quant_method": "gptq"}, False)],
)
def test_transformers_serves_what_it_reads_by_itself(
    quantization: dict[str, str], reads: bool
) -> None:
    line = command("hf", device="cpu", config={"a": 1, "quantization_config": quantization})
    assert line == ("transformers serve /c --device cpu" if reads else None)


@pytest.fixture
def filed(tmp_path: Path) -> RunRecord:
    """The record of a run on vLLM, as a report reads it from a store that has its checkpoint."""
    record = RunRecord(
        "s", "000-rtn", "rtn", "m", "vllm", Status.ok, None, "", 1.0, [],
        {"engine": {"name": "vllm"}, "model": {}},
    )  # fmt: skip
    record.stages = [StageRecord("quantize", "recipe", KEY, False, 1.0, "default", {}, {})]
    root = tmp_path / "store"
    record.placement = Placement(
        {"recipe": f"objects/quantize/{KEY}/checkpoint"}, str(tmp_path), "cuda", "auto"
    )
    place = root / "objects/quantize" / KEY / "checkpoint"
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps({"model_type": "llama"}))
    read = read_record(write_record(root / "runs", record))
    assert read is not None
    return read


def row_of(record: RunRecord, subject: str = "recipe") -> Row:
    row = Row("rtn", "m", record.engine, "ok", None, None)
    add_checkpoint(row, record, subject)
    return row


def test_a_row_names_its_checkpoint_wherever_the_store_lies(
    filed: RunRecord, tmp_path: Path
) -> None:
    place = tmp_path / f"store/objects/quantize/{KEY}/checkpoint"
    row = row_of(filed)
    assert (row.checkpoint, row.checkpoint_key) == (str(place), KEY)
    assert f"{tmp_path}/python -m vllm.entrypoints.openai.api_server --model {place} " in (
        row.serve or ""
    )
    assert "root" not in json.loads((tmp_path / "store/runs/s/000-rtn/record.json").read_text())
    (tmp_path / "store").rename(tmp_path / "moved")
    moved = read_record(tmp_path / "moved/runs/s/000-rtn/record.json")
    assert moved is not None
    assert row_of(moved).checkpoint == str(place).replace("/store/", "/moved/")


def test_what_is_not_there_or_not_known_is_not_named(filed: RunRecord, tmp_path: Path) -> None:
    assert row_of(filed, "baseline").checkpoint is None
    filed.placement = None  # an older record
    older = row_of(filed)
    assert older.checkpoint is not None and older.serve is None
    (tmp_path / f"store/objects/quantize/{KEY}").rename(tmp_path / "elsewhere")
    gone = row_of(filed)
    assert (gone.checkpoint, gone.checkpoint_key) == (None, KEY)


def test_starred_checkpoints_are_listed_with_their_commands(
    filed: RunRecord, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    row = row_of(filed)
    assert served_lines([row]) == []
    row.best_tradeoff = True
    first, second = served_lines([row])
    assert first == f"rtn on vllm: ~/store/objects/quantize/{KEY}/checkpoint"
    assert second.startswith("  serve: ~/python -m vllm") and " ~/store/objects" in second
