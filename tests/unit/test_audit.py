"""What an audit says of a checkpoint's files, and which checkpoints it takes."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.cli.subcommands import read_subcommand
from runner.config.schema.audit import Audit
from runner.config.schema.model import ModelKind
from runner.config.schema.root import Config
from runner.data.models.header import Header
from runner.data.models.schemes import scheme_of
from runner.errors import UsageError
from runner.pipeline.record import used_recipe_label
from runner.pipeline.stages.audit import Scheme
from runner.pipeline.stages.audit.check import check
from runner.pipeline.stages.audit.look import contradictions
from runner.planning.model_facts import audited_facts
from runner.validation.unused import refuse_unused
from runner.validation.verdict import Severity

pytestmark = pytest.mark.unit


def header(dtype: str, *shape: int) -> Header:
    bits = {"I32": 32, "BF16": 16, "F16": 16, "F32": 32}.get(dtype, 8)
    elements = 1
    for size in shape:
        elements *= size
    return Header(dtype, elements, elements * bits // 8, shape)


@pytest.mark.parametrize(
    ("own", "told"),
    [
        # 128 inputs and 64 outputs, as each format stores them.
        ({"weight_packed": ("I32", 64, 16), "weight_scale": ("BF16", 64, 4)},
         ("int4", "groups of 32")),
        ({"weight_packed": ("I32", 64, 32), "weight_scale": ("BF16", 64, 1)},
         ("int8", "per channel")),
        ({"weight": ("F8_E4M3", 64, 128), "weight_scale": ("BF16", 64, 1)},
         ("float8", "per channel")),
        ({"weight": ("F8_E4M3", 64, 128), "weight_scale": ("F32",)}, ("float8", "per tensor")),
        ({"weight": ("F8_E4M3", 64, 128), "weight_scale_inv": ("F32", 2, 4)},
         ("float8", "blocks of 32 x 32")),
        ({"weight": ("I8", 64, 128), "SCB": ("F32", 64)}, ("int8", "per channel")),
        ({"weight_packed": ("U8", 64, 64), "weight_scale": ("F8_E4M3", 64, 8)},
         ("float4", "groups of 16")),
        ({"qweight": ("I32", 16, 64), "scales": ("F16", 2, 64), "qzeros": ("I32", 2, 8)},
         ("int4", "groups of 64")),
        ({"qweight": ("I32", 128, 8), "scales": ("F16", 1, 64), "qzeros": ("I32", 1, 8)},
         ("int4", "per channel")),
        ({"weight": ("U8", 4096, 1), "weight.absmax": ("F32", 128),
          "weight.quant_state.bitsandbytes__nf4": ("U8", 80)}, ("nf4", "groups of 64")),
        ({"blocks": ("U8", 64, 64), "scales": ("U8", 64, 4)}, ("float4", "groups of 32")),
        ({"W_q": ("U8", 64, 64), "scale": ("F16", 128, 1), "zero": ("F16", 128, 1)},
         ("int4", "groups of 64")),
        ({"W_q": ("I32", 26, 32), "scale": ("F16", 256, 1), "zero": ("F16", 256, 1)},
         ("int3", "groups of 32")),
        ({"_weight_qdata": ("I8", 64, 128), "_weight_scale": ("F32", 64, 1),
          "_weight_zero_point": ("I8", 64, 1)}, ("int8", "per channel")),
        ({"_weight_qdata": ("F8_E4M3", 64, 128), "_weight_scale": ("F32", 64, 4)},
         ("float8", "groups of 32")),
        ({"_weight_qdata": ("I8", 64, 64), "_weight_scale": ("BF16", 4, 64),
          "_weight_zero_point": ("BF16", 4, 64)}, ("int4", "groups of 32")),
    ],
)  # fmt: skip
def test_headers_tell_numbers_and_scales(own: dict[str, Any], told: tuple[str, str]) -> None:
    headers = {name: header(*content) for name, content in own.items()}
    assert scheme_of(headers, 128 * 64) == told


def scheme(numbers: str, scales: str) -> Scheme:
    return Scheme(numbers, scales, 1, 1, 4.5, ["mlp"])


@pytest.mark.parametrize(
    ("stated", "found", "told"),
    [
        ({}, scheme("16 bits", ""), None),
        ({"bits": 4, "group_size": 64}, scheme("int4", "groups of 64"), None),
        ({"bits": 4, "group_size": -1}, scheme("int4", "per channel"), None),
        ({"w_bit": 4, "q_group_size": 128}, scheme("int4", "groups of 64"),
         "config.json says groups of 128, and the tensors have groups of 64"),
        ({"bits": 8}, scheme("int4", "groups of 64"),
         "config.json says 8 bits, and the tensors have 4"),
        ({"bits": 4}, scheme("16 bits", ""),
         "config.json says that it is quantized, and no matrix is"),
    ],
)  # fmt: skip
def test_what_config_json_says_is_held_against_the_tensors(
    stated: dict[str, Any], found: Scheme, told: str | None
) -> None:
    assert [*contradictions(stated, [found])] == ([] if told is None else [told])


def test_names_become_the_model_the_checkpoint_and_an_engine(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(
        json.dumps({"model_type": "llama", "quantization_config": {"quant_method": "awq"}})
    )
    line = ["audit", "tiny", str(tmp_path / "mine"), "tasks=packaged"]
    assert read_subcommand(line) == [
        "stages=[audit,eval,bench,tasks]", "model=tiny",
        f"audit.checkpoint='{tmp_path / 'mine'}'", "engine=hf", "tasks=packaged",
    ]  # fmt: skip
    line = ["audit", "org/base", str(tmp_path / "mine"), "engine=vllm", "stages=[audit]"]
    assert read_subcommand(line) == [
        "model=hub", "model.hub_id='org/base'", f"audit.checkpoint='{tmp_path / 'mine'}'",
        "engine=vllm", "stages=[audit]",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="runner audit BASE QUANTIZED"):
        read_subcommand(["audit", "tiny"])


def test_a_checkpoint_is_a_path_or_of_the_hub(tmp_path: Path) -> None:
    there = Audit(str(tmp_path / "Q4.gguf"))
    assert (there.label, there.model.kind) == ("Q4", ModelKind.local)
    published = Audit("org/name", file="a.gguf", revision="v1")
    assert (published.label, published.model.kind) == ("name", ModelKind.hub)
    assert (published.model.hub_id, published.model.revision) == ("org/name", "v1")
    assert Audit("org/name", name="theirs").label == "theirs"


def test_its_settings_have_no_effect_without_it(composed: Callable[..., Config]) -> None:
    config = composed("model=tiny", "audit.checkpoint=x")
    with pytest.raises(UsageError, match="stages has no audit; try runner audit"):
        refuse_unused(config, ["audit.checkpoint=x"])


def test_only_a_checkpoint_of_the_model_is_audited(
    composed: Callable[..., Config], tmp_path: Path
) -> None:
    config = composed("model=tiny", "stages=[audit]")
    facts: Any = SimpleNamespace(quantized_as=None, architecture=config.model.architecture)

    def reasons() -> list[str]:
        return [str(one) for one in check(config, facts) if one.severity is Severity.illegal]

    assert reasons() == ["audit.checkpoint is not set; try runner audit BASE QUANTIZED"]
    config.audit.checkpoint = str(tmp_path / "other")
    with pytest.raises(UsageError, match=r"audit.checkpoint=.*other is not a directory"):
        audited_facts(config)
    (tmp_path / "other").mkdir()
    sizes = {"num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 4}
    content = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 256,
        "intermediate_size": 128, "num_key_value_heads": 2, **sizes,
        "quantization_config": {"quant_method": "gptq", "bits": 4},
    }  # fmt: skip
    (tmp_path / "other" / "config.json").write_text(json.dumps(content))
    (reason,) = reasons()
    assert "is no checkpoint of tiny: layers 3, not 2" in reason
    assert used_recipe_label(config) == "other"
    facts.quantized_as = "awq"
    assert reasons()[0].startswith("the base model tiny is quantized itself (awq)")
    config.stages = ["quantize", "audit"]
    assert "a run measures one checkpoint" in reasons()[0]
