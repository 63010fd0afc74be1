"""Budgets of GGUF files: which types are tried, how they are given out, what is read back."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES

from runner.config.schema.bits import Bits, NumberFormat, NumberType
from runner.config.schema.group_size import Granularity, GroupSize
from runner.errors import StageError
from runner.methods.backends.gguf_candidates import candidates_of, wrong_candidate
from runner.methods.backends.gguf_mixes import chosen_types, uniform_choice
from runner.methods.backends.gguf_types import NEEDS_IMPORTANCE, TensorType
from runner.methods.gguf import METHOD, Gguf
from runner.methods.mixed_precision.allocate_types import allocate_types
from runner.methods.mixed_precision.layer_groups import Unit
from runner.methods.mixed_precision.verify_types import check_types
from runner.methods.recipe import Recipe
from tests.unit.measured import Mean, Row

pytestmark = pytest.mark.unit

G64 = GroupSize(Granularity.group, 64)
INT4 = NumberFormat(NumberType.int, 4)


def budget(*candidates: str, average: float | None = None, bytes: int | None = None) -> Bits:
    bits = Bits(weight=INT4, average=average, bytes=bytes)
    return replace(bits, candidates=list(candidates)) if candidates else bits


@dataclass
class Found:
    """Three units of 3,200 weights; the embedding, which is the head too, suffers most."""

    units: list[Unit]
    rows: list[Row]
    tensors: dict[str, str]
    other_bytes: int | None = 100


BYTES = {"Q8_0": 3400, "Q5_0": 2200, "IQ4_NL": 1800}
HARMS = {"embed": 1.0, "up": 0.1, "down": 0.2}


def found(without: tuple[str, str] | None = None) -> Found:
    units = [
        Unit("embed", "embed_tokens", None, ["embed", "lm_head"], 3200),
        Unit("up", "up_proj", 0, ["up"], 3200),
        Unit("down", "down_proj", 0, ["down"], 3200),
    ]
    rows = [
        Row(unit.name, kind, Mean(HARMS[unit.name] / size**4), size)
        for unit in units
        for kind, size in BYTES.items()
        if (unit.name, kind) != without
    ]
    names = {"embed": "token_embd.weight", "lm_head": "token_embd.weight",
             "up": "blk.0.ffn_up.weight", "down": "blk.0.ffn_down.weight"}  # fmt: skip
    return Found(units, rows, names)


def recipe(bits: Bits, **options: object) -> Recipe:
    return Recipe(Gguf(name="gguf", **options), bits, G64, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("widths", "imatrix", "some", "others"),
    [
        ({576}, False, {"IQ4_NL", "Q5_0", "Q8_0"}, {"Q4_K", "Q2_K", "IQ2_S"}),
        ({512, 2048}, False, {"Q2_K", "Q4_K", "Q6_K", "Q8_0"}, {"IQ4_NL", "IQ2_S"}),
        ({576, 1536}, True, {"Q4_K", "IQ4_NL", "IQ2_XXS", "Q8_0"}, {"MXFP4", "F16"}),
    ],
)
def test_types_that_fit_some_layer_are_tried(
    widths: set[int], imatrix: bool, some: set[str], others: set[str]
) -> None:
    kinds = candidates_of(budget(average=4.0), widths, imatrix)
    assert some <= {one.value for one in kinds}
    assert not others & {one.value for one in kinds}
    for kind in kinds:
        block, _ = GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind.value]]
        assert any(width % block == 0 for width in widths)
    assert imatrix or not NEEDS_IMPORTANCE & {*kinds}


def test_named_types_are_the_ones_that_are_tried() -> None:
    bits = budget("Q8_0", "MXFP4", "Q8_0", average=6.0)
    assert candidates_of(bits, {576}, False) == [TensorType.Q8_0, TensorType.MXFP4]
    (able,) = METHOD.backends.values()
    assert able.layer_types is not None
    assert able.layer_types(Gguf(name="gguf"), bits, (), False) == ["Q8_0", "MXFP4"]


@pytest.mark.parametrize(
    ("candidates", "options", "message"),
    [
        (("Q4_K", "w4a16"), {}, "bits.candidates has w4a16; in a GGUF file"),
        (("4",), {}, "bits.candidates has 4;"),
        (("Q8_0", "IQ2_S"), {}, "IQ2_S, which llama.cpp makes with an importance matrix"),
        (("Q8_0",), {"pure": True}, "method.pure does too"),
        (("Q8_0",), {"output_tensor_type": TensorType.Q8_0}, "method.output_tensor_type does too"),
        (("Q8_0",), {"tensor_types": {"ffn": TensorType.Q8_0}}, "method.tensor_types does too"),
    ],
)
def test_what_a_budget_cannot_be_combined_with(
    candidates: tuple[str, ...], options: dict[str, object], message: str
) -> None:
    method = Gguf(name="gguf", **options)  # type: ignore[arg-type]
    misfit = method.misfit(budget(*candidates, average=5.0), G64, "cpu")
    assert misfit is not None
    assert message in misfit[0]
    assert method.misfit(budget("Q8_0"), G64, "cpu") is None or options


def test_importance_matrices_allow_their_types() -> None:
    assert wrong_candidate(budget("IQ2_S", average=5.0), True) is None
    assert Gguf(name="gguf", imatrix=True).misfit(budget("IQ2_S", average=5.0), G64, "cpu") is None


def test_a_budget_of_bytes_counts_every_tensor() -> None:
    asked = recipe(budget(bytes=3400 + 2200 + 1800 + 100))
    assert allocate_types(asked, found(), "bfloat16") == {
        "token_embd.weight": "Q8_0",
        "blk.0.ffn_up.weight": "IQ4_NL",
        "blk.0.ffn_down.weight": "Q5_0",
    }
    one_less = recipe(budget(bytes=3400 + 2200 + 1800 + 99))
    assert allocate_types(one_less, found(), "bfloat16") != allocate_types(
        asked, found(), "bfloat16"
    )


def test_an_average_counts_embeddings_and_scales() -> None:
    asked = recipe(budget(average=8 * (3400 + 1800 + 1800) / 9600))
    assert [*allocate_types(asked, found(), "bfloat16").values()] == ["Q8_0", "IQ4_NL", "IQ4_NL"]


def test_ignored_layers_stay_as_they_are_at_their_own_cost() -> None:
    asked = recipe(budget(bytes=6400 + 2 * 1800 + 100), ignore=["down"])
    assert allocate_types(asked, found(), "float16") == {
        "token_embd.weight": "IQ4_NL",
        "blk.0.ffn_up.weight": "IQ4_NL",
        "blk.0.ffn_down.weight": "F16",
    }


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        (budget(bytes=5499), "bits.bytes=5499 is too small: .* 5500 bytes"),
        (budget(average=4.4), "bits.average=4.4 is too small: .* make 4.500"),
    ],
)
def test_too_small_a_budget_is_told(bits: Bits, message: str) -> None:
    with pytest.raises(StageError, match=message):
        allocate_types(recipe(bits), found(), "bfloat16")


def test_a_type_that_does_not_fit_a_unit_is_not_given_to_it() -> None:
    asked = recipe(budget(bytes=2200 + 2 * 1800 + 100))
    types = allocate_types(asked, found(without=("up", "IQ4_NL")), "bfloat16")
    assert types["blk.0.ffn_up.weight"] == "Q5_0"
    lonely = found()
    lonely.rows = [row for row in lonely.rows if row.unit != "up"]
    with pytest.raises(StageError, match=r"none of bits\.candidates fits up"):
        allocate_types(asked, lonely, "bfloat16")


def test_what_llama_cpp_is_asked_for() -> None:
    choice = chosen_types({"a.weight": TensorType.Q4_K, "b.weight": TensorType.Q4_K,
                           "c.weight": TensorType.Q8_0})  # fmt: skip
    assert choice.file_type == "Q4_K_M"
    assert choice.patterns["^a\\.weight$"] is TensorType.Q4_K
    assert uniform_choice(TensorType.IQ1_S).input_embedding is TensorType.Q8_0
    assert uniform_choice(TensorType.Q4_0).input_embedding is None


@dataclass
class Written:
    """A file of two matrices of 64 columns."""

    path: Path
    sizes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        writer = gguf.GGUFWriter(self.path / "m.gguf", "llama")
        for name, kind in {"a.weight": "Q8_0", "b.weight": "Q4_0"}.items():
            kind_ = gguf.GGMLQuantizationType[kind]
            data = gguf.quantize(np.ones((4, 64), np.float32), kind_)
            writer.add_tensor(name, data, raw_dtype=kind_)
            self.sizes[name] = data.nbytes
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def test_types_are_read_back(tmp_path: Path) -> None:
    size = sum(Written(tmp_path).sizes.values())
    planned = {"a.weight": "Q8_0", "b.weight": "Q4_0"}
    read = check_types(tmp_path, planned, budget(bytes=size))
    assert read.average_bits == pytest.approx((8.5 + 4.5) / 2)
    assert read.layers == {"Q4_0": 1, "Q8_0": 1}
    assert read.budget_share == 1.0
    with pytest.raises(StageError, match=r"b.weight was written as Q4_0, Q5_0 was requested"):
        check_types(tmp_path, {**planned, "b.weight": "Q5_0"}, budget(bytes=size))
    with pytest.raises(StageError, match=f"tensors have {size} bytes, the limit"):
        check_types(tmp_path, planned, budget(bytes=size - 1))
    with pytest.raises(StageError, match=r"6\.5000 bits per weight"):
        check_types(tmp_path, planned, budget(average=6.4))
