"""Broken or coarse: limits by bits, layers that are not the model's, experts without tokens."""

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from runner.config.schema.bits import Bits, NumberFormat, NumberType
from runner.config.schema.calibration import Calibration
from runner.config.schema.group_size import Granularity, GroupSize
from runner.data.texts.documents import write_documents
from runner.errors import NotThere, StageError
from runner.evaluation.metrics.expert_tokens import describe_starved, experts_below
from runner.evaluation.metrics.soundness import (
    broken_layers,
    most_kl_divergence,
    most_ratio,
    weight_width,
)
from runner.pipeline.checkpoint import Checkpoint
from runner.pipeline.stages.base import StageContext
from runner.pipeline.stages.jobs.check import STAGE as CHECK
from runner.pipeline.stages.jobs.check import CheckRequest, mean_divergence
from runner.pipeline.stages.jobs.experts import counted_experts, expert_tokens
from runner.pipeline.stages.jobs.windows import STAGE as WINDOWS
from runner.store.objects import RESULT_FILE
from tests.unit.conftest import MakeInputs
from tests.unit.test_inputs import load_request, written

pytestmark = pytest.mark.unit

GROUP = GroupSize(Granularity.group, 32)
CHANNEL, TENSOR = GroupSize(Granularity.channel), GroupSize(Granularity.tensor)
DRAW = np.random.default_rng(0)
ROW = DRAW.normal(size=64).astype("f4")


def weights(bits: int, activation: int = 16) -> Bits:
    kind = NumberType.int if activation < 16 else NumberType.bfloat
    return Bits(NumberFormat(NumberType.int, bits), NumberFormat(kind, activation))


def test_limits_shrink_with_bits() -> None:
    limits = [most_kl_divergence(width, weights(width), GROUP) for width in range(2, 9)]
    assert limits[:2] == [math.inf, math.inf]
    assert limits[2:] == sorted(limits[2:], reverse=True)
    assert limits[2:] == [3.0, 1.5, 0.5, 0.3, 0.3]


def test_limits_follow_granularity_and_activations() -> None:
    assert most_kl_divergence(4, weights(4), CHANNEL) > most_kl_divergence(4, weights(4), GROUP)
    assert most_kl_divergence(4, weights(4), TENSOR) == math.inf
    assert most_kl_divergence(8, weights(8, 8), CHANNEL) == 2.0
    assert most_kl_divergence(4, weights(4, 4), GROUP) == math.inf
    assert (most_ratio(3, weights(3), GROUP), most_ratio(4, weights(4), TENSOR)) == (
        math.inf,
        math.inf,
    )
    assert most_ratio(8, weights(8), TENSOR) == 10
    assert [most_ratio(4, weights(4, width), CHANNEL) for width in (4, 8)] == [math.inf, 10]


@pytest.mark.parametrize(("stored", "width"), [(None, 4), (16.0, 4), (4.5, 4), (2.63, 2)])
def test_a_type_of_fewer_bits_than_the_recipe_says_is_judged_by_its_own(
    stored: float | None, width: int
) -> None:
    assert weight_width(weights(4), stored) == width


def test_rounded_layers_are_the_models() -> None:
    noise = 0.2 * np.linalg.norm(ROW) / 8 * DRAW.normal(size=64).astype("f4")
    assert broken_layers({"a": ROW}, {"a": ROW + noise}, 4, GROUP) == []
    assert broken_layers({"a": ROW}, {"other": ROW}, 4, GROUP) == [], "compared where both are"


@pytest.mark.parametrize(("own", "said"), [
    (2 * ROW, "scaled by 2.00"), (0.5 * ROW, "scaled by 0.50"), (-ROW, "cosine -1.00"),
    (np.roll(ROW, 1), "cosine"), (ROW[:32], "shape"), (0 * ROW, "zero"),
    (np.full(64, np.nan, "f4"), "cosine nan"),
])  # fmt: skip
@pytest.mark.parametrize("width", [4, 8])
def test_other_layers_are_named(own: np.ndarray, said: str, width: int) -> None:
    (found,) = broken_layers({"model.layers.0.o": ROW}, {"model.layers.0.o": own}, width, GROUP)
    assert found.startswith("model.layers.0.o (")
    assert said in found


def test_every_layer_is_looked_at() -> None:
    """One that is missing, of another shape or zero does not end the search."""
    dense = dict.fromkeys(("absent", "other", "zero", "broken"), ROW)
    dense["both"] = 0 * ROW
    own = {"other": ROW[:32], "zero": 0 * ROW, "both": 0 * ROW, "broken": -ROW}
    found = broken_layers(dense, own, 4, GROUP)
    assert [each.split(" ")[0] for each in found] == ["other", "zero", "broken"]


def test_a_scale_is_of_the_part_that_points_the_same_way() -> None:
    """A product 1.35 times as long at a cosine of 0.9 is 1.21 times the model's, not 1.5."""
    aside = np.roll(ROW, 1) - (np.roll(ROW, 1) @ ROW) / (ROW @ ROW) * ROW
    aside *= np.linalg.norm(ROW) / np.linalg.norm(aside)
    own = 1.35 * (0.9 * ROW + math.sqrt(1 - 0.9**2) * aside)
    assert broken_layers({"a": ROW}, {"a": own}, 4, GROUP) == []


def test_a_recipe_of_several_widths_is_judged_by_the_narrowest() -> None:
    mixed = Bits(NumberFormat(NumberType.int, 8), average=5.0, candidates=["8", "4", "6"])
    assert mixed.is_auto
    assert weight_width(mixed, None) == 4


def test_very_few_bits_are_not_judged_by_layer() -> None:
    assert broken_layers({"a": ROW}, {"a": -ROW}, 2, GROUP) == []


def test_divergence_of_vocabularies_padded_differently() -> None:
    base = np.log(np.array([[0.5, 0.25, 0.25, 1e-12]], "f4"))
    own = np.log(np.array([[0.25, 0.5, 0.25]], "f4"))
    assert mean_divergence([base], [own]) == pytest.approx(0.25 * math.log(2), abs=1e-6)
    assert mean_divergence([base], [np.zeros(3, [("token", "i4")])]) is None


def test_starved_experts_come_first_by_name() -> None:
    layers = {"model.layers.0.mlp.experts": [70, 3], "model.layers.1.mlp.experts": [0, 90]}
    assert experts_below(layers, 1) == ["model.layers.1.mlp.experts.0 (0)"]
    assert describe_starved(layers, 0) is None
    assert describe_starved(layers, 64) == (
        "2 of 4 experts saw fewer than 64 calibration tokens: model.layers.1.mlp.experts.0 (0), "
        "model.layers.0.mlp.experts.1 (3)"
    )


def test_four_of_the_starved_are_named_the_most_starved_first() -> None:
    layers = {"a": [5, 4, 64, 3], "b": [2, 63, 100]}
    assert experts_below(layers, 64) == ["b.0 (2)", "a.3 (3)", "a.1 (4)", "a.0 (5)", "b.1 (63)"]
    assert describe_starved(layers, 64) == (
        "5 of 7 experts saw fewer than 64 calibration tokens: "
        "b.0 (2), a.3 (3), a.1 (4), a.0 (5) and 1 more"
    )
    assert describe_starved(layers, 6) == (
        "4 of 7 experts saw fewer than 6 calibration tokens: b.0 (2), a.3 (3), a.1 (4), a.0 (5)"
    )
    assert describe_starved(layers, 2) is None


@pytest.mark.parametrize(("width", "least"), [(4, 0.7), (5, 0.85), (6, 0.9), (7, 0.95), (8, 0.95)])
def test_the_cosine_that_a_layer_must_have(width: int, least: float) -> None:
    for cosine, broken in ((least + 0.005, 0), (least - 0.005, 1)):
        own = np.array([cosine, math.sqrt(1 - cosine**2)], "f4")
        # As long as its part along the model's is right.
        found = broken_layers({"a": np.array([1, 0], "f4")}, {"a": own / cosine}, width, GROUP)
        assert len(found) == broken


@pytest.mark.parametrize(("factor", "broken"), [(1.41, 0), (1.42, 1), (0.71, 0), (0.70, 1)])
def test_the_scale_that_a_layer_may_have(factor: float, broken: int) -> None:
    assert len(broken_layers({"a": ROW}, {"a": factor * ROW}, 8, GROUP)) == broken


def test_limits_of_perplexity_and_divergence_by_hand() -> None:
    assert [most_ratio(width, weights(width), GROUP) for width in (3, 4, 5)] == [
        math.inf,
        10.0,
        10.0,
    ]
    assert [most_ratio(width, weights(width), TENSOR) for width in (4, 5)] == [math.inf, 10.0]
    assert most_kl_divergence(4, weights(4), CHANNEL) == 4.0
    assert most_kl_divergence(5, weights(5), CHANNEL) == 1.5
    assert most_kl_divergence(4, weights(4, 8), CHANNEL) == 4.0
    assert most_kl_divergence(6, weights(6, 8), CHANNEL) == 2.0
    assert most_kl_divergence(8, weights(8, 7), CHANNEL) == math.inf
    assert most_kl_divergence(3, weights(3, 8), GROUP) == math.inf


def test_experts_in_a_list_are_counted_by_the_tokens_they_are_called_with() -> None:
    experts = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3))
    model = torch.nn.ModuleDict({"experts": experts})
    with counted_experts(model) as counts:
        experts[0](torch.zeros(5, 2))
        experts[2](torch.zeros(2, 3, 2))
        experts[2](torch.zeros(1, 2))
    experts[1](torch.zeros(9, 2))
    assert counts["experts"].tolist() == [5, 0, 7]


class FusedExperts(torch.nn.Module):
    """Three experts' weights in one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3, 2, 2))

    def forward(self, states: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return states


def test_fused_experts_are_counted_where_the_routing_is_told() -> None:
    model = torch.nn.ModuleDict({"mlp": FusedExperts()})
    chosen = torch.tensor([[0, 2], [2, 3]])
    with counted_experts(model) as counts:
        model["mlp"](torch.zeros(2, 2), chosen)
    assert counts["mlp"].tolist() == [1, 0, 2], "3 stands for none"
    with counted_experts(model) as counts:
        model["mlp"](torch.zeros(2, 2))
        model["mlp"](torch.zeros(2, 2), chosen, chosen)
    assert counts["mlp"] is None, "which of the two is it?"


def spoken(folder: Path) -> Path:
    """A text of words that the tokenizer of ``written`` below knows."""
    words = np.random.default_rng(0).integers(1, 90, (8, 150))
    folder.mkdir()
    write_documents(folder, [" ".join(f"w{word}" for word in one) for one in words])
    return folder


def test_a_checkpoint_that_says_other_words_is_broken_whatever_its_perplexity(
    tmp_path: Path,
) -> None:
    dense, own = tmp_path / "dense", tmp_path / "own"
    model = written(dense)
    vocabulary = {"[UNK]": 0, **{f"w{number}": number for number in range(1, 90)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(dense)
    request = CheckRequest(
        load_request(own), dense, spoken(tmp_path / "text"), weights(8), CHANNEL,
        compares_layers=False,
    )  # fmt: skip
    context = StageContext(tmp_path, tmp_path, tmp_path, 1, lambda *_: None, lambda load: load())

    model.save_pretrained(own)
    same = CHECK.run(request, context)
    assert same.ratio == 1.0 and same.kl_divergence_nats == pytest.approx(0, abs=1e-6)
    assert (same.tokens, same.kl_divergence_limit_nats) == (2 * 128, 0.3)
    torch.manual_seed(1)
    model.lm_head.weight.data.normal_(0, 0.3)
    model.save_pretrained(own)
    with pytest.raises(StageError, match=r"KL divergence .* nats per token; 8-bit .* 0\.3$"):
        CHECK.run(request, context)

    # The model is asked once for all its recipes, as long as its files are what they were.
    model.save_pretrained(own)
    weights_file = dense / "model.safetensors"
    before = weights_file.stat()
    shutil.copyfile(own / "model.safetensors", weights_file)
    os.utime(weights_file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(StageError, match="KL divergence"):
        CHECK.run(request, context)
    os.utime(weights_file)
    assert CHECK.run(request, context).kl_divergence_nats == pytest.approx(0, abs=1e-6)
    kept = [*(tmp_path / "dense_looks").iterdir()]
    assert len(kept) == 2
    for one in kept:
        one.write_bytes(b"damaged")
    assert CHECK.run(request, context).kl_divergence_nats == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("layers", "uncounted", "said"),
    [
        ({}, ["mlp.experts"], "because experts are not called with the routing (mlp.experts)"),
        ({}, [], "(none was found)"),
        ({"mlp.experts": [70, 3, 80, 90]}, [], "1 of 4 experts saw fewer than"),
    ],
)
def test_experts_that_cannot_be_counted_or_starve_are_warned_of(
    layers: dict[str, list[int]],
    uncounted: list[str],
    said: str,
    inputs: MakeInputs,
    tmp_path: Path,
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mixtral", "num_local_experts": 4}')
    one, calibration = inputs(), Calibration(min_tokens_per_expert=64)
    model = Checkpoint(tmp_path, "float", {"model": "mine"}, "mine", "float32")
    cut: Any = one.obtain(
        WINDOWS, None, one.environment("transformers"), title="w", determinants={}
    )
    with pytest.raises(NotThere):
        expert_tokens(one, model, calibration, cut)
    (missing,) = (address for address in one.session._to_be_made if address.stage == "experts")  # type: ignore[attr-defined]
    folder = one.session.store.directory(missing)
    folder.mkdir(parents=True)
    result = {"tokens": 99, "layers": layers, "uncounted": uncounted}
    (folder / RESULT_FILE).write_text(json.dumps({"result": result, "resources": {}}))
    found = inputs()
    assert expert_tokens(found, model, calibration, cut) == layers
    assert said in found.warnings[0]
    assert expert_tokens(found, model, None, None) is None
