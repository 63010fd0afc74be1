"""Sensitivities of a model, and checkpoints whose layers differ in width because of them."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
from safetensors import safe_open

from benchmarks.sensitivity import log_probabilities, naive_scores
from runner.config.compose import quoted
from runner.config.schema.engine import Engine
from runner.config.schema.eval import PerplexityProtocol
from runner.config.schema.group_size import Granularity, GroupSize
from runner.config.schema.layer_format import LayerFormat
from runner.config.schema.sensitivity import LayerGranularity
from runner.data.texts.protocols import Excerpt, protocol_text
from runner.engines.base import LoadSpec
from runner.engines.hf.reading import read_checkpoint
from runner.evaluation.sensitivity.probe import Probe
from runner.evaluation.sensitivity.score import Score
from runner.methods.mixed_precision.layer_groups import Unit
from runner.methods.mixed_precision.rounding import Rounding, all_rounded, rounded
from runner.pipeline.stages.sensitivity import STAGE, SensitivityRequest
from runner.pipeline.worker.job import StageContext
from runner.pipeline.worker.model_cache import ModelCache
from runner.util.serialise import to_json
from tests.integration.conftest import (
    FLOAT32,
    SAME,
    Called,
    base_model,
    computing,
    keys,
    records,
)
from tests.integration.test_wandb import read_back

G32 = GroupSize(Granularity.group, 32)

pytestmark = pytest.mark.integration

TINY = ("model=tiny", "eval=quick", "group_size=g32")
TOKENS, WINDOWS = 64, 3
RECIPES = {
    "rtn-auto3.5-g32": ("method=rtn", "bits=auto"),
    "gptq-auto0.11MB-g32,sym=false": (
        "bits=auto",
        "bits.average=null",
        "bits.bytes=110000",
        "method.sym=false",
    ),
    "rtn-w3a16-g32,keep=0.mlp.up_proj,keep_bits=8,keep_most_sensitive=1": (
        "method=rtn",
        "bits=w3a16",
        "method.keep=[0.mlp.up_proj]",
        "method.keep_bits=8",
        "method.keep_most_sensitive=1",
    ),
}


def stage(record: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in record["stages"] if entry["stage"] == name)


def load(directory: Path, dtype: str = FLOAT32) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, CompressedTensorsConfig

    options = {}
    if "quantization_config" in json.loads((directory / "config.json").read_text()):
        options["quantization_config"] = CompressedTensorsConfig(dequantize=True)
    return AutoModelForCausalLM.from_pretrained(
        directory, dtype=getattr(torch, dtype), **options
    ).eval()


def text_directory(store: Path, prose: Path) -> Path:
    """Where the store keeps this text; other tests put parts of it there too."""
    documents = store.glob("objects/text/*/documents.jsonl")
    whole = prose.read_text()
    return next(p.parent for p in documents if p.read_text() == json.dumps(whole) + "\n")


@pytest.fixture(scope="module")
def environment(store: Path, plain_variables: dict[str, str], arithmetic: str) -> dict[str, str]:
    return computing({**plain_variables, "QUANT_RUNNER_STORE": str(store)}, arithmetic)


@pytest.fixture(scope="module")
def text(prose: Path) -> tuple[str, ...]:
    return (
        "text@sensitivity.text=local", f"sensitivity.text.path={quoted(prose)}",
        f"sensitivity.context_length={TOKENS}", f"sensitivity.windows={WINDOWS}",
    )  # fmt: skip


def check_against_the_plain_loop(
    store: Path, prose: Path, result: dict[str, Any], directory: Path, dtype: str
) -> None:
    """Rows equal what whole forward passes of the model in ``directory`` give."""
    # The plain loop rounds logits to bfloat16 too, which the probe does not.
    divergence, perplexity = (
        ((1e-3, 1e-6), 5e-5) if dtype == FLOAT32 else ((0.02, 2e-3), 2 * SAME[dtype])
    )
    excerpt = Excerpt(text_directory(store, prose), directory, TOKENS, WINDOWS, False)
    text = protocol_text(PerplexityProtocol.spread, excerpt)
    windows = [window.tokens for window in text.windows]
    rounding = Rounding.integers(3, G32, True)
    # All of a small model; of another as many as take seconds.
    units = result["units"][:: max(1, load(directory).num_parameters() // 30_000_000)]
    plain = naive_scores(
        load(directory, dtype), windows, [unit["layers"] for unit in units], rounding
    )
    rows = {(row["unit"], row["rounding"]): row for row in result["rows"]}
    for unit, (losses, divergences) in zip(units, plain, strict=True):
        row = rows[unit["name"], rounding.label]
        mean = sum(divergences) / WINDOWS
        assert row["kl_divergence"]["estimate"] == pytest.approx(
            mean, rel=divergence[0], abs=divergence[1]
        )
        assert row["perplexity"] == pytest.approx(math.exp(sum(losses) / WINDOWS), rel=perplexity)


def test_every_layer_is_scored_ranked_and_logged(
    command: Callable[..., Called],
    store: Path,
    tmp_path: Path,
    prose: Path,
    text: tuple[str, ...],
    arithmetic: str,
) -> None:
    sweep = f"layers_{arithmetic}"
    measured = ("model=tiny", "stages=[sensitivity]", *text, "sensitivity.group_sizes=[g32]",
                f"method.rounding_dtype={arithmetic}")  # fmt: skip
    done = command(
        *measured, "sensitivity.bits=[3,4]", f"sweep={sweep}", "tracker=wandb",
        f"tracker.directory={quoted(tmp_path)}",
        "hydra.run.dir=out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (record,) = records(store, sweep)
    result = stage(record, "sensitivity")["result"]
    assert len(result["units"]) == 16
    assert len(result["rows"]) == 32
    check_against_the_plain_loop(store, prose, result, base_model(store, record), arithmetic)
    files = [store / "runs" / sweep, tmp_path / "out"]
    for folder in files:
        name = "sensitivity-tiny-linear"
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        with (folder / f"{name}.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        divergences = [float(row["kl_divergence"]) for row in rows]
        assert divergences == sorted(divergences, reverse=True)
        assert len(divergences) == 32
    assert "w3a16-g32: ranks of 16: model.embed_tokens" in done.stdout
    assert "17 more rows and the heat map" in done.stdout
    (tracked,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert "sensitivity/baseline_linear" in read_back(tracked)["text"]
    (table,) = tracked.parent.glob("files/media/table/sensitivity/*.json")
    assert len(json.loads(table.read_text())["data"]) == 32
    again = command(
        *measured, "sensitivity.bits=[4,3]", f"sweep={sweep}_again", "tracker=none",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    (same,) = records(store, f"{sweep}_again")
    assert keys(same, "sensitivity") == [("baseline", keys(record, "sensitivity")[0][1], True)]


def test_a_killed_sensitivity_goes_on_where_it_ended(
    command: Callable[..., Called],
    store: Path,
    tmp_path: Path,
    prose: Path,
    text: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    arithmetic: str,
) -> None:
    sweep = f"kinds_{arithmetic}"
    made = command(
        "model=tiny", "stages=[sensitivity]", "sensitivity=kind", *text, f"sweep={sweep}",
        "sensitivity.bits=[8]", "sensitivity.group_sizes=[g32]", "tracker=none",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    model = base_model(store, records(store, sweep)[0])
    request = SensitivityRequest(
        model, text_directory(store, prose), LayerGranularity.fused,
        [Rounding.integers(3, G32, True)], TOKENS, WINDOWS, "cpu", arithmetic, "bfloat16", False,
    )  # fmt: skip
    scored: list[str] = []
    score = Probe.score

    def counted(self: Probe, unit: Unit, rounding: Rounding) -> Score:
        if len(scored) == 4:
            raise KeyboardInterrupt
        scored.append(unit.name)
        return score(self, unit, rounding)

    monkeypatch.setattr(Probe, "score", counted)
    context = StageContext(
        output=tmp_path,
        partial=tmp_path,
        cache=tmp_path,
        threads=1,
        progress=lambda *_: None,
        loaded=ModelCache().loaded,
    )
    with pytest.raises(KeyboardInterrupt):
        STAGE.run(request, context)
    first = list(scored)
    scored.clear()
    with pytest.raises(KeyboardInterrupt):
        STAGE.run(request, context)
    assert not set(first) & set(scored)
    monkeypatch.undo()
    result = STAGE.run(request, context)
    assert len(result.rows) == 10
    check_against_the_plain_loop(store, prose, to_json(result), model, arithmetic)


def test_layers_get_widths_of_their_own(
    command: Callable[..., Called],
    store: Path,
    prose: Path,
    text: tuple[str, ...],
    arithmetic: str,
) -> None:
    for number, choices in enumerate(RECIPES.values()):
        done = command(
            *TINY, *choices, *text, "stages=[quantize,eval]", "calibration.samples=8",
            "calibration.sequence_length=64", "tracker=none", f"sweep=of_plan{number}_{arithmetic}",
            f"method.rounding_dtype={arithmetic}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "bits per weight on average" in done.stderr
    made = [records(store, f"of_plan{number}_{arithmetic}")[0] for number in range(len(RECIPES))]
    type_named = f",rounding_dtype={arithmetic}"
    assert [record["label"].replace(type_named, "") for record in made] == list(RECIPES)
    for record in made:
        entry = stage(record, "quantize")
        directory = store / "objects" / "quantize" / entry["key"] / "checkpoint"
        groups = json.loads((directory / "config.json").read_text())["quantization_config"]
        widths = {
            layer: group["weights"]["num_bits"]
            for group in groups["config_groups"].values()
            for layer in group["targets"]
        }
        assert groups["quant_method"] == "compressed-tensors"
        assert len(set(widths.values())) > 1
        stored = stored_bits(directory)
        for layer, width in stored.items():
            assert width == widths.get(layer, 16), layer
            assert (layer in groups["ignore"]) is (width == 16)
        sizes = {n: m.weight.numel() for n, m in load(base_model(store, record)).named_modules()
                 if n in stored}  # fmt: skip
        average = sum(sizes[n] * width for n, width in stored.items()) / sum(sizes.values())
        assert entry["result"]["widths"]["average_bits"] == pytest.approx(average)
        bits = record["config"]["bits"]
        if bits["average"] is not None:
            assert bits["average"] - 1 < average <= bits["average"]
        if bits["bytes"] is not None:
            size = entry["result"]["tensors"]["bytes"]
            assert 0.9 * bits["bytes"] < size <= bits["bytes"]
        for block in (0, 1):
            for names in (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")):
                fused = [w for n, w in stored.items()
                         if f".{block}." in n and n.endswith(names)]  # fmt: skip
                assert len(fused) == len(names)
                assert len(set(fused)) == 1
    together = stage(made[0], "together")["result"]
    divergence = divergence_of_whole(store, prose, made[0], arithmetic)
    tolerance = 1e-3 if arithmetic == FLOAT32 else 0.05
    assert together["kl_divergence"]["estimate"] == pytest.approx(divergence, rel=tolerance)
    assert together["expected_kl_divergence"] > 0
    kept = stored_bits(store / "objects" / "quantize" / stage(made[2], "quantize")["key"]
                       / "checkpoint")  # fmt: skip
    assert kept["model.layers.0.mlp.gate_proj"] == 8
    assert sorted(set(kept.values())) == [3, 8]


def test_formats_of_several_families_are_what_sensitivities_round(
    command: Callable[..., Called], store: Path, text: tuple[str, ...], arithmetic: str
) -> None:
    import torch

    candidates = ["w4a16-g64", "nvfp4", "fp8_e4m3", "w8a8", "16"]
    done = command(
        *TINY, "method=rtn", "bits=auto", "bits.average=10", *text, "stages=[quantize,eval]",
        f"bits.candidates=[{','.join(candidates)}]", "tracker=none", f"sweep=families_{arithmetic}",
        f"method.rounding_dtype={arithmetic}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (record,) = records(store, f"families_{arithmetic}")
    entry = stage(record, "quantize")
    chosen = entry["result"]["recipe"]["layer_formats"]
    assert len({*chosen.values()}) > 1
    assert 0.9 < entry["result"]["widths"]["budget_share"] <= 1
    written = load(store / "objects" / "quantize" / entry["key"] / "checkpoint", arithmetic)
    model = load(base_model(store, record), arithmetic)
    layers, own = dict(model.named_modules()), dict(written.named_modules())
    result = stage(record, "sensitivity")["result"]
    rows = {(row["unit"], row["rounding"]) for row in result["rows"]}
    for unit in result["units"]:
        if unit["block"] is None:
            continue
        (name,) = {chosen[layer] for layer in unit["layers"]}
        modules = [layers[layer] for layer in unit["layers"]]
        if (found := LayerFormat.named(name, G32)) is None:
            assert all(torch.equal(layers[n].weight, own[n].weight) for n in unit["layers"])
            continue
        assert (unit["name"], found.label) in rows
        rounding = Rounding(found.bits, found.group_size, True)
        inputs = torch.randn(2, 3, modules[0].in_features).to(modules[0].weight.dtype)
        with torch.inference_mode(), all_rounded(modules, rounding, torch.bfloat16):
            for layer in unit["layers"]:
                expected, found_output = layers[layer](inputs), own[layer](inputs)
                error = (found_output - expected).norm() / expected.norm()
                # Products of scales are stored, or computed, in bfloat16.
                assert error < 0.01, (layer, name)


@pytest.mark.parametrize("arithmetic", [FLOAT32], scope="module")
def test_experts_share_two_budgets_with_the_rest(
    command: Callable[..., Called], store: Path, prose: Path, text: tuple[str, ...], arithmetic: str
) -> None:
    """Blocks' experts differ, their files say so, and engine hf reads each as it was measured."""
    budgets = {"active_bytes": 2_600_000, "bytes": 3_900_000}
    done = command(
        "model=zoo/mixtral", "method=rtn", "group_size=g32", "bits=auto", "bits.average=null",
        *(f"bits.{name}={budget}" for name, budget in budgets.items()), *text,
        "bits.candidates=[3,4,fp8_e4m3,16]", "stages=[quantize]", "tracker=none",
        f"sweep=experts_{arithmetic}", f"method.rounding_dtype={arithmetic}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (record,) = records(store, f"experts_{arithmetic}")
    entry = stage(record, "quantize")
    chosen = entry["result"]["recipe"]["layer_formats"]
    experts = [
        {one for name, one in chosen.items() if f".{block}.block_sparse_moe.experts." in name}
        for block in (0, 1)
    ]
    assert [len(one) for one in experts] == [1, 1], "vLLM takes one scheme of a block's experts"
    assert experts[0] != experts[1]
    assert any("transformers by itself does not" in one for one in record["warnings"])
    checkpoint = store / "objects" / "quantize" / entry["key"] / "checkpoint"
    size, read = 0, 0.0
    with safe_open(checkpoint / "model.safetensors", framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118
            size += tensors.get_tensor(name).nbytes
            share = 0.5 if ".experts." in name else "embed_tokens" not in name
            read += share * tensors.get_tensor(name).nbytes
    widths = entry["result"]["widths"]
    assert widths["active_bytes"] == math.ceil(read) <= budgets["active_bytes"]
    assert widths["active_budget_share"] == pytest.approx(read / budgets["active_bytes"])
    assert widths["budget_share"] == pytest.approx(size / budgets["bytes"])
    assert max(widths["budget_share"], widths["active_budget_share"]) > 0.9
    found = stage(record, "together")["result"]["kl_divergence"]["estimate"]
    # transformers dequantizes experts to bfloat16, whatever is asked for.
    assert found == pytest.approx(divergence_of_whole(store, prose, record, arithmetic), rel=0.02)


@pytest.mark.environments("llama_cpp")
def test_tensors_of_a_gguf_file_get_types_of_their_own(
    command: Callable[..., Called], store: Path, prose: Path, text: tuple[str, ...]
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    size = 77_700
    done = command(
        "model=tiny", "eval=quick", "method=gguf", "bits=auto", "bits.average=null",
        f"bits.bytes={size}", "bits.candidates=[Q8_0,Q5_1,IQ4_NL]", *text,
        "sensitivity=fused", "stages=[quantize,eval]", "engine=llama_cpp", "tracker=none",
        "sweep=of_types",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (record,) = records(store, "of_types")
    assert record["label"] == "gguf-auto0.0777MB"
    entry, result = stage(record, "quantize"), stage(record, "sensitivity")["result"]
    assert 0.995 * size < entry["result"]["tensors"]["bytes"] <= size
    (file,) = (store / "objects" / "quantize" / entry["key"] / "checkpoint").glob("*.gguf")
    formats = entry["result"]["recipe"]["layer_formats"]
    written = {one.name: one.tensor_type.name for one in gguf.GGUFReader(file).tensors
               if len(one.shape) > 1}  # fmt: skip
    assert written == formats
    assert len({*written.values()}) > 1
    # The embedding, which is the head too, is one unit: swapped in as plain libraries read it.
    model = base_model(store, record)
    excerpt = Excerpt(text_directory(store, prose), model, TOKENS, WINDOWS, False)
    windows = protocol_text(PerplexityProtocol.spread, excerpt).windows
    ids = torch.tensor([window.tokens for window in windows])
    uniform = uniform_file(store, "IQ4_NL", "token_embd.weight", file)
    rounded_model = AutoModelForCausalLM.from_pretrained(
        uniform.parent, gguf_file=uniform.name, dtype=torch.float32
    ).eval()
    rows = {(row["unit"], row["rounding"]): row for row in result["rows"]}
    for unit in (result["units"][0], result["units"][2]):
        mixed = load(model)
        for layer in unit["layers"]:
            mixed.get_submodule(layer).weight = rounded_model.get_submodule(layer).weight
        with torch.inference_mode():
            before, after = (
                one(input_ids=ids).logits[:, TOKENS // 2 : -1].log_softmax(-1)
                for one in (load(model), mixed)
            )
        divergence = float((before.exp() * (before - after)).sum(-1).mean())
        row = rows[unit["name"], "IQ4_NL"]
        assert row["kl_divergence"]["estimate"] == pytest.approx(divergence, rel=1e-3, abs=1e-6)


@pytest.mark.environments("llama_cpp")
@pytest.mark.parametrize("arithmetic", [FLOAT32], scope="module")
def test_experts_of_a_gguf_file_get_types_of_their_own(
    command: Callable[..., Called], store: Path, prose: Path, text: tuple[str, ...], arithmetic: str
) -> None:
    """Swapped in by hand, a block's experts cost what was measured; a token's bytes are bounded."""
    import torch

    active = 1_500_000
    done = command(
        "model=zoo/mixtral", "method=gguf", "bits=auto", "bits.average=null", *text,
        f"bits.active_bytes={active}", "bits.candidates=[Q8_0,IQ4_NL]", "sensitivity=fused",
        "stages=[quantize]", "engine=llama_cpp", "tracker=none", "sweep=experts_of_types",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (record,) = records(store, "experts_of_types")
    entry, result = stage(record, "quantize"), stage(record, "sensitivity")["result"]
    (file,) = (store / "objects" / "quantize" / entry["key"] / "checkpoint").glob("*.gguf")
    written = gguf.GGUFReader(file).tensors
    read = sum(
        int(one.n_bytes) // (2 if "_exps." in one.name else 1)
        for one in written
        if one.name != "token_embd.weight"
    )
    widths = entry["result"]["widths"]
    assert 0.98 * active < widths["active_bytes"] == read <= active
    formats = entry["result"]["recipe"]["layer_formats"]
    assert formats == {one.name: one.tensor_type.name for one in written if one.name in formats}
    assert len({*formats.values()}) == 2
    uniform = uniform_file(store, "IQ4_NL", "blk.0.ffn_gate_exps.weight", file)
    stored = {one.name: one for one in gguf.GGUFReader(uniform).tensors}
    model = base_model(store, record)
    excerpt = Excerpt(text_directory(store, prose), model, TOKENS, WINDOWS, False)
    windows = [one.tokens for one in protocol_text(PerplexityProtocol.spread, excerpt).windows]
    mixed = load(model)
    gate, up = (
        torch.from_numpy(gguf.dequantize(found.data, found.tensor_type))
        for found in (stored[f"blk.0.ffn_{part}_exps.weight"] for part in ("gate", "up"))
    )
    experts = mixed.get_submodule("model.layers.0.mlp.experts")
    experts.gate_up_proj.data = torch.cat([gate, up], dim=1)
    pairs = [[log_probabilities(one, window) for one in (load(model), mixed)] for window in windows]
    divergence = sum(float((p.exp() * (p - q)).sum(-1).mean().detach()) for p, q in pairs) / WINDOWS
    rows = {(row["unit"], row["rounding"]): row for row in result["rows"]}
    row = rows["model.layers.0.mlp.experts.gate/up_proj", "IQ4_NL"]
    assert row["kl_divergence"]["estimate"] == pytest.approx(divergence, rel=1e-3)


def uniform_file(store: Path, kind: str, tensor: str, made: Path) -> Path:
    """The file of one type, of the model that a file was made of."""

    def shape(path: Path) -> dict[str, list[int]]:
        return {one.name: [*one.shape] for one in gguf.GGUFReader(path).tensors}

    (found,) = (
        path
        for path in store.glob("objects/uniform/*/uniform.gguf")
        if shape(path) == shape(made)
        for one in gguf.GGUFReader(path).tensors
        if (one.name, one.tensor_type.name) == (tensor, kind)
    )
    return found


def divergence_of_whole(store: Path, prose: Path, record: dict[str, Any], dtype: str) -> float:
    """KL divergence of the written checkpoint from its model, by whole forward passes."""
    directory = base_model(store, record)
    excerpt = Excerpt(text_directory(store, prose), directory, TOKENS, WINDOWS, False)
    windows = [one.tokens for one in protocol_text(PerplexityProtocol.spread, excerpt).windows]
    key = stage(record, "quantize")["key"]
    checkpoint = store / "objects" / "quantize" / key / "checkpoint"
    made = read_checkpoint(
        LoadSpec(checkpoint, "compressed-tensors", "cpu", dtype, False, 1, Engine(name="hf"))
    )
    model = load(directory, dtype)
    pairs = [[log_probabilities(one, window) for one in (model, made)] for window in windows]
    return float(sum((p.exp() * (p - q)).sum(-1).mean() for p, q in pairs)) / WINDOWS


def stored_bits(checkpoint: Path) -> dict[str, int]:
    """Bits a weight of each linear layer, from the tensors alone."""
    found = {}
    with safe_open(checkpoint / "model.safetensors", framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118
            layer, _, part = name.rpartition(".")
            if part == "weight_packed":
                outputs, inputs = tensors.get_tensor(f"{layer}.weight_shape").tolist()
                found[layer] = 32 * tensors.get_tensor(name).numel() // (outputs * inputs)
            elif part == "weight" and layer.endswith("_proj"):
                found[layer] = 16
    return found


def test_the_grid_is_the_one_that_rtn_writes(
    command: Callable[..., Called], store: Path, arithmetic: str
) -> None:
    import torch

    for sym in (True, False):
        done = command(
            *TINY, "method=rtn", "bits=w3a16", f"method.sym={sym}", "stages=[quantize]",
            "tracker=none", f"sweep=grid{sym}_{arithmetic}", f"method.rounding_dtype={arithmetic}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (record,) = records(store, f"grid{sym}_{arithmetic}")
        key = stage(record, "quantize")["key"]
        written = load(store / "objects" / "quantize" / key / "checkpoint", arithmetic).state_dict()
        model = load(base_model(store, record), arithmetic).state_dict()
        names = [name for name in model if name.endswith("_proj.weight")]
        assert len(names) == 14
        for name in names:
            expected = rounded(model[name], Rounding.integers(3, G32, sym), torch.bfloat16)
            assert torch.equal(written[name], expected), name


def test_sensitivity_of_the_default_model(
    command: Callable[..., Called],
    store: Path,
    prose: Path,
    text: tuple[str, ...],
    arithmetic: str,
) -> None:
    sweep = f"kinds_of_layers_{arithmetic}"
    done = command(
        "stages=[sensitivity]", "sensitivity=kind", "sensitivity.bits=[3]", *text,
        "sensitivity.group_sizes=[g32]", "tracker=none", f"sweep={sweep}",
        f"method.rounding_dtype={arithmetic}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (record,) = records(store, sweep)
    result = stage(record, "sensitivity")["result"]
    assert [unit["name"] for unit in result["units"]] == [
        "model.embed_tokens", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
        "down_proj", "lm_head",
    ]  # fmt: skip
    check_against_the_plain_loop(store, prose, result, base_model(store, record), arithmetic)
