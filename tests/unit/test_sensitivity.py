"""Sensitivities: what is grouped, that walking gives the plain loop's numbers, and what is kept."""

import contextlib
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sensitivity import log_probabilities, naive_scores
from benchmarks.together import Together
from runner.config.schema.group_size import Granularity, GroupSize
from runner.config.schema.sensitivity import LayerGranularity
from runner.errors import StageError
from runner.evaluation.metrics.statistics import Interval
from runner.evaluation.sensitivity.probe import Probe
from runner.evaluation.sensitivity.score import Score, Scorer
from runner.evaluation.sensitivity.trials import Trial
from runner.methods.mixed_precision.layer_groups import Unit, matching, units_of, with_fused
from runner.methods.mixed_precision.rounding import Rounding, rounded
from runner.pipeline.stages.sensitivity import (
    SensitivityRequest,
    SensitivityResult,
    SensitivityRow,
    measure,
)
from runner.reporting.heat_map import _spec, draw_heat_map
from runner.reporting.sensitivity import notes, ranked, show_sensitivities
from runner.store.records import StageRecord
from runner.util.serialise import to_json
from runner.util.shown import console
from tests.unit.records import record

G16 = GroupSize(Granularity.group, 16)
G64 = GroupSize(Granularity.group, 64)
PER_CHANNEL = GroupSize(Granularity.channel)

pytestmark = pytest.mark.unit

SUFFIXES = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
LAYERS = [f"model.layers.{block}.{suffix}" for block in (0, 1) for suffix in SUFFIXES]
ENDS = {"model.embed_tokens": 50, "lm_head": 60}
ROUNDINGS = [
    Rounding.integers(3, G16, True),
    Rounding.integers(4, PER_CHANNEL, False),
]


@pytest.mark.parametrize(
    ("grain", "kinds"),
    [
        (LayerGranularity.linear, 2 * ["q_proj", "k_proj", "v_proj", "o_proj"]),
        (LayerGranularity.fused, 2 * ["q/k/v_proj", "o_proj", "gate/up_proj", "down_proj"]),
        (LayerGranularity.block, 2 * ["block"]),
        (
            LayerGranularity.kind,
            ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        ),
    ],
)
def test_units(grain: LayerGranularity, kinds: list[str]) -> None:
    units = units_of(dict.fromkeys(LAYERS, 10), ENDS, grain)
    assert [units[0].name, units[-1].name] == list(ENDS)
    inner = units[1:-1]
    assert sorted(layer for unit in inner for layer in unit.layers) == sorted(LAYERS)
    assert all(unit.weights == 10 * len(unit.layers) for unit in inner)
    assert [u.kind for u in inner if u.kind in kinds][: len(kinds)] == kinds or len(inner) == 14
    if grain is not LayerGranularity.kind:
        assert {unit.block for unit in inner} == {0, 1}


def test_fused_layers_are_kept_together() -> None:
    named = matching(
        ["0.self_attn.k_proj", "re:.*1.mlp.up", "model.layers.1.mlp.down_proj"], LAYERS
    )
    assert len(named) == 3
    kept = {name.removeprefix("model.layers.") for name in with_fused(named, LAYERS)}
    assert kept == {
        "0.self_attn.q_proj",
        "0.self_attn.k_proj",
        "0.self_attn.v_proj",
        "1.mlp.gate_proj",
        "1.mlp.up_proj",
        "1.mlp.down_proj",
    }
    assert matching(["k_pro", "layers"], LAYERS) == set()


def small_model(family: str) -> Any:
    """A random model, tied, with biases or without."""
    import torch
    import transformers

    shape = {"vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    inner = {"intermediate_size": 48, "num_key_value_heads": 2, "tie_word_embeddings": True}
    if family == "OPT":
        inner = {"ffn_dim": 48, "word_embed_proj_dim": 32}
    config = getattr(transformers, f"{family}Config")(
        **shape, **inner, max_position_embeddings=64, initializer_range=0.2
    )
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture
def windows() -> list[list[int]]:
    import torch

    found: list[list[int]] = torch.randint(
        3, 90, (3, 24), generator=torch.Generator().manual_seed(0)
    ).tolist()
    return found


@pytest.mark.parametrize(
    ("family", "grain"),
    [
        ("Llama", LayerGranularity.linear),
        ("OPT", LayerGranularity.fused),
        ("Qwen2", LayerGranularity.block),
        ("Llama", LayerGranularity.kind),
    ],
)
def test_the_walk_gives_what_whole_forward_passes_give(
    family: str, grain: LayerGranularity, windows: list[list[int]]
) -> None:
    import torch

    torch.set_num_threads(1)
    model = small_model(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    probe = Probe(model, windows, grain, torch.bfloat16)
    for rounding in ROUNDINGS:
        plain = naive_scores(model, windows, [unit.layers for unit in probe.units], rounding)
        for unit, (loss, divergence) in zip(probe.units, plain, strict=True):
            score = probe.score(unit, rounding)
            assert score.loss == pytest.approx(loss, abs=2e-6)
            assert score.kl_divergence == pytest.approx(divergence, abs=2e-6)
            assert max(divergence) > 1e-5, "rounding shows"
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_what_cannot_be_taken_apart_is_refused(windows: list[list[int]]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config

    gpt2 = GPT2Config(vocab_size=90, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
    with pytest.raises(StageError, match="no linear layers in the blocks of GPT2LMHeadModel"):
        Probe(
            AutoModelForCausalLM.from_config(gpt2).eval(),
            windows,
            LayerGranularity.linear,
            torch.bfloat16,
        )
    capped = Gemma2Config(
        vocab_size=90, hidden_size=32, intermediate_size=48, num_hidden_layers=2, head_dim=8,
        num_attention_heads=4, num_key_value_heads=2, final_logit_softcapping=0.01,
    )  # fmt: skip
    with pytest.raises(StageError, match="its logits are not the output embedding's product"):
        Probe(
            AutoModelForCausalLM.from_config(capped).eval(),
            windows,
            LayerGranularity.linear,
            torch.bfloat16,
        )


def taken_apart(model: Any, windows: list[list[int]]) -> Any:
    import torch

    from runner.evaluation.sensitivity.blockwise import Decoder

    return Decoder(model, torch.tensor(windows))


def test_blocks_that_are_called_twice_are_refused(windows: list[list[int]]) -> None:
    model = small_model("Llama")
    model.model.layers[1] = model.model.layers[0]
    with pytest.raises(StageError, match=r"LlamaFor.* do not hand their output on .* once each"):
        taken_apart(model, windows)


def test_states_that_are_changed_after_the_blocks_are_refused(windows: list[list[int]]) -> None:
    model = small_model("Llama")
    assert taken_apart(model, windows).states.shape == (3, 24, 32)

    def double(_: Any, __: Any, found: Any) -> Any:
        found.last_hidden_state *= 2
        return found

    model.model.register_forward_hook(double)
    with pytest.raises(StageError, match="do not lead to the decoder's states when called by them"):
        taken_apart(model, windows)


def test_a_decoder_without_blocks_is_refused(windows: list[list[int]]) -> None:
    model = small_model("Llama")
    del model.model.layers[:]
    with pytest.raises(StageError, match=r"its decoder \(LlamaModel\) has no list of blocks"):
        taken_apart(model, windows)


def test_a_head_with_a_bias_scores_as_the_definition_says() -> None:
    import torch

    torch.manual_seed(0)
    head = torch.nn.Linear(8, 40)
    plain, changed = torch.randn(2, 12, 8), torch.randn(2, 12, 8)
    ids = torch.randint(0, 40, (2, 12))

    def logarithms(states: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(head(states[:, 6:-1]).double(), -1)

    with torch.inference_mode():
        scorer = Scorer(head, plain, ids)
        score = scorer.score(changed)
        p, q = logarithms(plain), logarithms(changed)
        right = ids[:, 7:, None]
        assert scorer.reference == pytest.approx(-p.gather(-1, right).mean((1, 2)).numpy())
        assert score.loss == pytest.approx(-q.gather(-1, right).mean((1, 2)).numpy())
        divergence = (p.exp() * (p - q)).sum(-1).mean(-1)
        assert score.kl_divergence == pytest.approx(divergence.numpy(), rel=1e-5)
        again = scorer.score_head(head.weight)
        assert again.loss == pytest.approx(scorer.reference)
        assert again.kl_divergence == pytest.approx([0, 0], abs=1e-6)


def test_one_scale_for_a_whole_matrix_is_its_largest_weights() -> None:
    import torch

    weight = torch.tensor([[7.0, -3.2, 0.4], [1.6, -7.9, 2.4]])
    found = rounded(
        weight, Rounding.integers(4, GroupSize(Granularity.tensor), True), torch.float32
    )
    # A symmetric grid has 15 steps from -7.9, the largest, to 7.9: it lies between two of them.
    step = 2 * 7.9 / 15
    nearest = (weight / step).round() * step
    nearest[1, 1] = found[1, 1]
    assert found.numpy() == pytest.approx(nearest.numpy())
    assert abs(found[1, 1].item() + 7.9) == pytest.approx(step / 2, rel=1e-5)


def test_groups_that_do_not_divide_are_refused() -> None:
    import torch

    with pytest.raises(StageError, match="groups of 64 do not divide a layer's 96 inputs"):
        rounded(torch.zeros(4, 96), Rounding.integers(4, G64, True), torch.bfloat16)


@pytest.fixture
def result() -> SensitivityResult:
    units = units_of(dict.fromkeys(LAYERS, 10), ENDS, LayerGranularity.linear)
    rows = [
        SensitivityRow(
            unit.name, "w4a16-g32", Interval(0.1 / (1 + i), 0, 1), 20.0, Interval(i, -1, 1)
        )
        for i, unit in enumerate(units)
    ]
    return SensitivityResult("second_half_256", LayerGranularity.linear, 1000, 19.5, units, rows)


def test_the_answer_says_where_the_ends_rank(result: SensitivityResult) -> None:
    result.rows.reverse()
    assert ranked(result)[0].unit == "model.embed_tokens"
    about, note = notes(result)
    assert about == "unquantized: perplexity 19.500 (second_half_256, 1000 tokens)"
    assert "model.embed_tokens 1; lm_head 16" in note
    assert "first block 2, 3, 4, 5, 6, 7, 8; last block 9, 10, 11" in note


def test_units_that_do_not_fit_a_format_have_no_rank_in_it(result: SensitivityResult) -> None:
    wide = [replace(row, rounding="Q4_K") for row in result.rows if "down_proj" in row.unit]
    result.rows += wide
    _, narrow, note = notes(result)
    assert "model.embed_tokens 1" in narrow
    assert note == f"Q4_K: ranks of {len(wide)}: first block 1; last block {len(wide)}"


@pytest.mark.parametrize("grain", [*LayerGranularity])
@pytest.mark.parametrize("tied", [True, False])
def test_ends_of_the_heat_map_are_the_embedding_and_the_head(
    grain: LayerGranularity, tied: bool, result: SensitivityResult
) -> None:
    ends = {"model.embed_tokens": 10} if tied else ENDS
    result.units = units_of(dict.fromkeys(LAYERS, 10), ends, grain)
    row = result.rows[0]
    result.rows = [replace(row, unit=unit.name) for unit in result.units]
    spec = _spec(result)
    at = {cell["block"]: cell["kind"] for cell in spec["data"]["values"]}
    columns = spec["spec"]["encoding"]["x"]["scale"]["domain"]
    assert {*columns} == {*at}
    assert at["in"] == "embed_tokens"
    assert at.get("out") == (None if tied else "lm_head")


@pytest.mark.parametrize("grain", [LayerGranularity.linear, LayerGranularity.kind])
def test_the_heat_map_is_a_picture(grain: LayerGranularity, result: SensitivityResult) -> None:
    from PIL import Image

    result.units = units_of(dict.fromkeys(LAYERS, 10), ENDS, grain)
    result.rows = [row for row in result.rows if row.unit in {u.name for u in result.units}]
    picture = Image.open(io.BytesIO(draw_heat_map(result)), formats=["PNG"]).convert("RGB")
    assert min(picture.size) > 100
    colours = picture.getcolors(maxcolors=10_000)
    assert colours is not None
    # A cell alone has more than a hundred points of its colour.
    assert len([count for count, _ in colours if count > 100]) > len(result.rows) / 2


def test_each_measurement_is_told_once_and_files_of_two_have_two_names(
    result: SensitivityResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def entry(key: str, version: int | None = None) -> StageRecord:
        content = to_json(result)
        return StageRecord("sensitivity", "baseline", key, False, 1, "e", {}, content, version)

    records = [
        record(0, "a", [entry("aaaaaaaa"), entry("unreadable", version=10**6)]),
        record(1, "b", [entry("aaaaaaaa"), entry("bbbbbbbb")]),
    ]
    show_sensitivities(records, [tmp_path], console(width=200))
    printed = capsys.readouterr().out
    assert printed.count("sensitivity of small") == 2
    left = len(result.rows) - 15
    for name in ("sensitivity-small-linear", "sensitivity-small-linear-bbbbbb"):
        said = f"{left} more rows and the heat map: {tmp_path}/{name}.csv, .json, .png"
        assert said in printed.replace("\n", " ")
    assert len(list(tmp_path.iterdir())) == 6
    show_sensitivities(records, [], console(width=200))
    printed = capsys.readouterr().out
    assert "lm_head" in printed and "heat map" not in printed, "nothing can be written"


def test_a_model_that_gives_no_numbers_is_not_taken_apart(
    windows: list[list[int]], tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import save_file

    model = small_model("Llama")
    request = SensitivityRequest.__new__(SensitivityRequest)
    request.model_directory, request.compute_dtype = tmp_path, "float16"
    save_file({"w": torch.ones(2)}, tmp_path / "model.safetensors")
    measure._require_numbers(request, model, windows[0])
    model.model.norm.weight.data[0] = math.nan
    with pytest.raises(StageError, match="the unquantized model gives logits") as told:
        measure._require_numbers(request, model, windows[0])
    assert "method.rounding_dtype=float32" in str(told.value)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_losses_that_are_not_finite_are_no_measurement(value: float) -> None:
    trial = Trial(
        Unit("layers.0", "q_proj", 0), ROUNDINGS[0].label, lambda: Score([1.0, value], [0.0, 0.0])
    )
    with pytest.raises(StageError, match=r"layers.0 rounded as .* losses that are not finite"):
        measure._score(trial)


@pytest.mark.parametrize("family", ["Llama", "OPT"])
def test_units_rounded_together_score_as_whole_forward_passes_do(
    family: str, windows: list[list[int]]
) -> None:
    import torch

    torch.set_num_threads(1)
    model = small_model(family)
    plain = [log_probabilities(model, window) for window in windows]
    probe = Probe(model, windows, LayerGranularity.fused, torch.bfloat16)
    choice: dict[str, Rounding | None] = {
        unit.name: ROUNDINGS[number % 2] for number, unit in enumerate(probe.inner_units)
    }
    left, changed = probe.inner_units[1], probe.inner_units[-1]
    whole = probe.score_together(choice)
    with Together(probe, choice) as together:
        scores = [
            whole,
            together.score_with(changed, ROUNDINGS[0]),
            together.score_with(left, None),
            together.score_with(changed, choice[changed.name]),
        ]
    assert scores[-1] == whole, "what was changed is rounded again"
    assert probe.score_together({**choice, left.name: None}) == scores[2]
    others = [choice, {**choice, changed.name: ROUNDINGS[0]}, {**choice, left.name: None}]
    assert torch.equal(log_probabilities(model, windows[0]), plain[0]), "the weights are back"
    assert len({score.loss[0] for score in scores}) == 3
    for score, chosen in zip(scores, others, strict=False):
        with contextlib.ExitStack() as stack:
            for unit in probe.inner_units:
                stack.enter_context(probe.rounded(unit, chosen[unit.name]))
            found = [log_probabilities(model, window) for window in windows]
        divergences = [
            (p.exp() * (p - q)).sum(-1).mean() for p, q in zip(plain, found, strict=True)
        ]
        assert score.kl_divergence == pytest.approx([one.item() for one in divergences], abs=2e-6)
        assert max(score.kl_divergence) > 1e-3
