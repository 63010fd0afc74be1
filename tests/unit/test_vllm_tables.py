"""What vLLM reads on GPUs by its own account: the shipped table, and another version's."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from runner.config.schema.bits import Bits, NumberFormat, NumberType
from runner.config.schema.group_size import GroupSize
from runner.config.schema.method import Method
from runner.engines.base import CheckpointFacts, Software
from runner.engines.vllm import ENGINE
from runner.engines.vllm import tables as module
from runner.engines.vllm.derive import Asked, table, written
from runner.engines.vllm.layouts import Layout, layouts
from runner.engines.vllm.tables import PINNED, read_table, table_for
from runner.methods.autoround import Autoround
from runner.methods.awq import Awq
from runner.methods.fp8 import Fp8
from runner.methods.rtn import Rtn
from runner.planning.hardware.detect import Machine
from runner.util.gpus import Gpu
from runner.util.paths import conf_dir
from tests.unit.judging import Compose, illegal_ones, judge

pytestmark = pytest.mark.unit

CT = "compressed-tensors"
BF16 = NumberFormat(NumberType.bfloat, 16)
INT8, FP8 = NumberFormat(NumberType.int, 8), NumberFormat(NumberType.float, 8, 4)
FP4 = NumberFormat(NumberType.float, 4)
MIXTURE = {"num_experts": 8}


def _facts(form: str, weight: NumberFormat | int, group: str, at: str, **more: Any) -> Any:
    if isinstance(weight, int):
        weight = NumberFormat(NumberType.int, weight)
    bits = Bits(weight, more.pop("activation", BF16))
    method: Method = more.pop("method", Rtn(name="rtn"))
    size = GroupSize.named(group)
    return CheckpointFacts(form, bits, size, method, "cuda", compute_capability=at, **more)


@pytest.mark.parametrize("capability", ["7.5", "8.0", "8.9", "9.0", "10.0", "12.0"])
@pytest.mark.parametrize("group", ["per_channel", "g16", "g32", "g128", "g256"])
@pytest.mark.parametrize("width", [2, 3, 4, 5, 6, 8])
def test_packed_integers_of_every_width_are_read(width: int, group: str, capability: str) -> None:
    assert ENGINE.refusal(_facts(CT, width, group, capability)) is None
    asymmetric = _facts(CT, width, group, capability, method=Rtn(name="rtn", sym=False))
    assert ENGINE.refusal(asymmetric) is None


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        (_facts(CT, INT8, "per_channel", "9.0", activation=INT8), None),
        (
            _facts(CT, INT8, "per_channel", "10.0", activation=INT8),
            "on GPUs of compute capability 10.0, not of w8a8",
        ),
        (_facts(CT, FP8, "per_channel", "8.0", activation=FP8), None),
        (_facts(CT, FP8, "per_tensor", "7.5"), None),
        (
            _facts(CT, FP8, "per_tensor", "8.0", activation=FP8, method=Fp8(kv_cache=True)),
            "method.kv_cache=false",
        ),
        (_facts(CT, FP8, "per_tensor", "8.9", activation=FP8, method=Fp8(kv_cache=True)), None),
        (_facts(CT, 4, "g48", "9.0"), "g16, g32, g64, g128, g256 or g512 on GPUs"),
        (_facts(CT, 4, "per_tensor", "9.0"), "not with per_tensor"),
        (_facts("gptq", 4, "g16", "9.0"), "per_channel, g32, g64 or g128"),
        (_facts("gptq", 3, "g32", "9.0"), "bits=w4a16 or w8a16 on GPUs"),
        (_facts("awq", 4, "g16", "9.0", method=Awq(backend="autoawq")), None),
        (_facts(CT, 3, "per_channel", "9.0", config=MIXTURE), "9.0 for experts"),
        (_facts(CT, 3, "g64", "9.0", config=MIXTURE), None),
        (_facts(CT, 8, "g64", "9.0", config=MIXTURE, method=Awq()), "method.zero_point=false"),
        (_facts(CT, 4, "g64", "9.0", dtype="float32"), "16 bits only on GPUs"),
        (_facts(CT, FP8, "per_channel", "9.0", activation=FP8, dtype="float32"), "16 bits only"),
        (_facts(CT, 4, "g64", "9.0", dtype="bfloat16"), None),
        (_facts("auto-round", 2, "g64", "9.0"), None),
        (_facts("auto-round", 2, "per_channel", "9.0"), "g16, g32, g64, g128, g256 or g512"),
        (_facts("auto-round", 4, "g16", "9.0", method=Autoround(sym=False)), None),
        (_facts("auto-round", 4, "g16", "9.0"), "per_channel, g32, g64 or g128"),
        (_facts("auto-round", 3, "g64", "9.0", method=Autoround(sym=False)), "method.sym=true"),
        (_facts("modelopt", FP8, "per_tensor", "8.0", activation=FP8), None),
        (_facts("modelopt", FP8, "per_tensor", "7.5", activation=FP8), "not of fp8_e4m3"),
        (_facts("modelopt", FP4, "g16", "9.0", activation=FP4), None),
        (_facts("modelopt", INT8, "per_channel", "9.0"), "not of w8a16"),
    ],
)
def test_what_is_read_depends_on_the_gpu(facts: CheckpointFacts, says: str | None) -> None:
    reason = ENGINE.refusal(facts)
    if says is None:
        assert reason is None
    else:
        assert says in (reason or "")


@pytest.mark.parametrize(
    ("weight", "activation", "group", "capability", "warned"),
    [
        (FP8, FP8, "per_channel", "8.0", True),
        (FP8, FP8, "per_channel", "8.9", False),
        (FP4, FP4, "g16", "9.0", True),
        (FP4, FP4, "g16", "10.0", False),
        (FP4, BF16, "g16", "9.0", False),
        (INT8, INT8, "per_channel", "8.0", False),
        # Machete reads integers whose activations it leaves in 16 bits; Humming rounds them.
        (4, INT8, "g128", "9.0", True),
        (4, INT8, "g64", "9.0", False),
        (4, FP8, "g128", "9.0", False),
        (FP8, FP8, "b128", "9.0", False),
        (FP8, FP8, "b128", "8.9", True),
        (FP8, FP8, "b128", "8.0", True),
    ],
)
def test_activations_that_stay_in_sixteen_bits_are_said(
    weight: NumberFormat | int,
    activation: NumberFormat,
    group: str,
    capability: str,
    warned: bool,
) -> None:
    """vLLM reads the checkpoint all the same, with kernels for weights alone."""
    facts = _facts(CT, weight, group, capability, activation=activation)
    assert ENGINE.refusal(facts) is None
    assert ("leaves activations in 16 bits" in (ENGINE.caution(facts) or "")) == warned


def test_the_gpu_in_use_decides(composed: Compose, cpu: Machine) -> None:
    """Not the first of the machine; of several the one that reads least."""
    cards = tuple(Gpu("a GPU", 80 << 30, one, f"GPU-{one}") for one in ("10.0", "9.0"))
    machine = Machine(**{**vars(cpu), "gpus": cards})
    w8a8 = ["method=smoothquant", "engine=vllm", "bits=w8a8", "group_size=per_channel"]
    for device, said in (("cuda:0", True), ("cuda:1", False)):
        verdicts = illegal_ones(judge(composed, machine, [*w8a8, f"engine.device={device}"]))
        assert any("not of w8a8" in one.reason for one in verdicts) == said


def test_the_shipped_table_is_of_the_pinned_version_and_whole() -> None:
    pins = yaml.safe_load((conf_dir() / "environment" / "vllm_cuda.yaml").read_text())
    assert f"vllm=={PINNED}" in pins["requirements"]
    table = table_for(None, None)
    assert table is not None and table.version == PINNED
    assert {"8.0", "8.9", "9.0", "10.0"} <= {*table.capabilities}
    asked = {f"{one.format}: {one.row}" for one in layouts()}
    assert {*table.rows["dense"], *table.rows["experts"]} <= asked


def test_a_version_without_a_table_is_asked_and_else_said_to_be_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = _facts(CT, INT8, "per_channel", "10.0", activation=INT8)
    absent = Software("0.26.0", None, tmp_path)
    there = Software("0.26.0", sys.executable, tmp_path)
    unknown = CheckpointFacts(**{**vars(facts), "software": absent})
    assert ENGINE.refusal(unknown) is None, "another version's table does not count"
    assert "what vLLM 0.26.0 reads on GPUs of compute capability 10.0" in str(
        ENGINE.caution(unknown)
    )

    def ask(python: str, version: str, capability: str, kept: Path) -> None:
        assert (python, version, capability) == (sys.executable, "0.26.0", "10.0")
        rows = {CT: {"w8a8": {"per_channel": {"AKernel": [capability]}}}}
        content = {"vllm": version, "capabilities": [capability], "dense": rows, "experts": {}}
        kept.parent.mkdir()
        kept.write_text(written(content))

    monkeypatch.setattr(module, "_ask", ask)
    known = CheckpointFacts(**{**vars(facts), "software": there})
    assert ENGINE.refusal(known) is None and ENGINE.caution(known) is None
    three = CheckpointFacts(**{**vars(_facts(CT, 3, "g64", "10.0")), "software": there})
    assert "bits=w8a8 on GPUs" in (ENGINE.refusal(three) or "")
    monkeypatch.setattr(module, "_ask", lambda *_: pytest.fail("asked twice"))
    assert ENGINE.refusal(known) is None


def test_an_interpreter_that_cannot_say_leaves_no_table(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module._ask(str(tmp_path / "python"), "0.1", "9.0", tmp_path / "kept" / "table.json")
    assert "it did not say" in caplog.text
    assert not (tmp_path / "kept" / "table.json").exists()


class _Version:
    """A vLLM that reads some layouts."""

    version = "0.1"

    def __init__(self, reads: Callable[[str, Any], bool]) -> None:
        self._reads = reads

    def kernels(self, capability: str, config: dict[str, Any], dtype: str) -> list[str]:
        assert dtype == ("float16" if capability == "7.5" else "bfloat16")
        if not self._reads(capability, config.get("quantization_config")):
            raise ValueError("no")
        return ["AKernel"]


def test_a_version_that_cannot_be_asked_is_not_one_that_reads_nothing() -> None:
    """What it refuses otherwise is left out."""

    def packed_on_ampere(capability: str, quantization: Any) -> bool:
        packed = quantization is None or quantization.get("format") == "pack-quantized"
        return packed and (capability == "8.0" or quantization is None)

    found = table(cast(Asked, _Version(packed_on_ampere)), ["7.5", "8.0"])
    assert found["dense"][CT]["w4a16"]["g64"] == {"AKernel": ["8.0"]}
    assert [*found["experts"]] == [CT] and "w8a8" not in found["dense"][CT]
    for reads in (lambda *_: False, lambda _, quantization: quantization is None):
        with pytest.raises(ValueError, match="no"):
            table(cast(Asked, _Version(reads)), ["8.0"])


def test_a_table_reads_as_it_was_written(tmp_path: Path) -> None:
    rows = {CT: {"w4a16 with zero points": {"g64": {"AKernel": ["9.0"]}}}}
    content = {"vllm": "1", "capabilities": ["9.0"], "dense": rows, "experts": {}}
    (tmp_path / "table.json").write_text(written(content))
    table = read_table(tmp_path / "table.json")
    assert table.groups("dense", CT, "w4a16 with zero points", "9.0") == {"g64": "AKernel"}
    assert table.groups("dense", CT, "w4a16 with zero points", "8.0") == {}
    assert table.bits("dense", CT, None) == ["w4a16"]
    assert json.loads((tmp_path / "table.json").read_text())["experts"] == {}


def test_a_layout_is_what_config_json_says() -> None:
    """As checkpoints of the runner's methods have it."""
    scheme = Layout(CT, "w3a16", "g64", True).quantization_config()["config_groups"]["group_0"]
    assert scheme["format"] == "pack-quantized" and scheme["input_activations"] is None
    weights = scheme["weights"]
    assert (weights["num_bits"], weights["group_size"], weights["symmetric"]) == (3, 64, False)
    nvfp4 = Layout(CT, "fp4_a4", "g16").quantization_config()
    assert nvfp4["format"] == "nvfp4-pack-quantized"
    assert nvfp4["config_groups"]["group_0"]["input_activations"]["strategy"] == "tensor_group"
    assert Layout("gptq", "w8a16", "per_channel").quantization_config()["group_size"] == -1
