"""Dimensions of models by their config.json: right, or refused with the reason."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.config.schema.architecture import Architecture, Indexer, LinearAttention, Mixer
from runner.data.models.architecture.reading import read_architecture
from runner.data.models.architecture.says import families
from runner.data.models.config_json import check_config
from runner.errors import UsageError
from runner.planning.linears import Linear
from runner.planning.model_shape import Shape
from tests.unit.small_plan import SMALL

pytestmark = pytest.mark.unit

CASES: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parent / "data" / "model_configs.yaml").read_text("utf-8")
)
BLOCKS = {"M": "mamba", "E": "moe", "*": "attention"}
LLAMA = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
    "intermediate_size": 96, "vocab_size": 100,
}  # fmt: skip
MIXTURE = {**LLAMA, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}


def says(content: Any) -> Any:
    """Lists that the file writes in short, written out."""
    if isinstance(content, dict):
        return {name: says(value) for name, value in content.items()}
    if not isinstance(content, str) or not content.startswith("="):
        return content
    kind, _, rest = content[1:].partition(" ")
    if kind == "blocks":
        return [BLOCKS[letter] for letter in rest]
    if kind == "searched":
        return [block for run in rest.split() for block in searched(run)]
    found: list[Any] = []
    for part in content[1:].split(";"):
        body, _, times = part.partition("|")
        found += [yaml.safe_load(one) for one in body.split()] * int(times or 1)
    return found


def searched(run: str) -> list[dict[str, Any]]:
    """Equal blocks: with attention (*) or without (-), the MLP's multiple, how many."""
    multiple, count = run[1:].split("x")
    group = 8 if run[0] == "*" else None
    attention = {"n_heads_in_group": group, "no_op": group is None}
    return [{"attention": attention, "ffn": {"ffn_mult": float(multiple)}}] * int(count)


@pytest.mark.parametrize("name", CASES)
def test_layers_are_counted_as_they_are(name: str) -> None:
    config, gives = says(CASES[name]["says"]), CASES[name]["gives"]
    check_config(config, Path("config.json"))
    reading = read_architecture(config)
    assert reading.problem is None
    assert reading.known_family
    shape = Shape(reading.architecture)
    # Stated numbers are rounded.
    rounded = gives["parameters"] % 10**7 == 0
    assert shape.counted == pytest.approx(gives["parameters"], rel=0.01 if rounded else 0.0007)
    assert shape.kv_numbers_per_token == gives["cached"]
    assert shape.state_bytes_per_sequence(2) == gives["state"]
    assert shape.attention_layers == gives["attention_layers"]
    assert shape.expert_layers == gives["expert_layers"]
    assert sum(x.weights for x in shape.linears if x.routed) == shape.routed_weights


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({**LLAMA, "layer_types": ["full_attention", "hyper_attention"] * 2}, "'hyper_attention'"),
        ({**LLAMA, "layer_types": ["linear_attention"] * 4}, "linear_attention, and of what kind"),
        ({**LLAMA, "layer_types": ["full_attention"] * 3}, "has 3 entries for 4 layers"),
        ({**LLAMA, "mixer_types": ["a"] * 4}, "mixer_types, which is not known"),
        ({**LLAMA, "model_type": "nemotron_h", "hybrid_override_pattern": "ME*Q"}, "kind 'Q'"),
        ({**LLAMA, "hybrid_layer_pattern": [0, 1, 2, 0], "sliding_window": 8}, "has an entry 2"),
        ({**LLAMA, "num_key_value_heads": [4, 4, 2, 2]}, "num_key_value_heads differs"),
        ({**LLAMA, "per_layer_config": {"0": {"head_dim": 8}}}, "differ that are of one kind"),
        ({**LLAMA, "hidden_size": "64"}, "hidden_size='64', which should be a whole number"),
        ({**LLAMA, "kv_lora_rank": 8}, "does not say qk_nope_head_dim"),
        ({**LLAMA, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "layer_types": 3, "moe_layers": 3,
          "num_experts": 4, "num_experts_per_tok": 2}, "its fields do not fit together"),
        ({**MIXTURE, "mlp_layer_types": ["dense", "mixed"] * 2}, "unknown kind of layer 'mixed'"),
        ({**MIXTURE, "zero_expert_num": 2}, "experts that compute nothing"),
        ({**LLAMA, "model_type": "rwkv"}, "RWKV"),
        ({**LLAMA, "model_type": "nemotron-nas", "block_configs": [
            {"attention": {"n_heads_in_group": 1}, "ffn": {"ffn_mult": 1, "replace_with_linear": 1}}
        ] * 4}, "replace_with_linear in layer 0"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused_by_name(config: dict[str, Any], reason: str) -> None:
    reading = read_architecture(config)
    assert reading.problem is not None
    assert reason in reading.problem
    with pytest.raises(UsageError):  # nobody counts what was not read
        Shape(reading.architecture)


def test_experts_without_their_number_per_token_are_not_counted() -> None:
    config = {name: value for name, value in MIXTURE.items() if name != "num_experts_per_tok"}
    with pytest.raises(UsageError, match="lacks experts_per_token"):
        Shape(read_architecture(config).architecture)


def test_what_is_left_out_is_said() -> None:
    told = {"text_config": LLAMA, "vision_config": {"depth": 1}, "num_nextn_predict_layers": 1}
    assert len(read_architecture(told).notes) == 1
    ahead = {**LLAMA, "num_nextn_predict_layers": 1}
    assert "MTP" in read_architecture(ahead).notes[0]
    assert not read_architecture(LLAMA).notes


def test_exceptions_of_layers_are_read() -> None:
    kinds = ["sliding_attention", "full_attention"] * 2
    own = {"1": {"head_dim": 32}, "3": {"head_dim": 32}}
    config = {**LLAMA, "layer_types": kinds, "sliding_window": 8, "per_layer_config": own}
    shape = Shape(read_architecture(config).architecture)
    assert shape.kv_numbers_per_token == 2 * 2 * 4 * 16 + 2 * 2 * 4 * 32


def test_every_family_names_another_that_is_there() -> None:
    known = families()
    assert {entry["as"] for entry in known.values() if "as" in entry} <= {*known}


def test_lists_by_layer_are_repeated_and_never_too_long() -> None:
    mixed = Architecture(**{**vars(SMALL), "layers": 5, "layer_kinds": [Mixer.full, Mixer.none]})
    assert Shape(mixed).attention_layers == 3
    longer = Architecture(**{**vars(SMALL), "layers": 1, "layer_kinds": [Mixer.full, Mixer.none]})
    with pytest.raises(UsageError, match="layer_kinds has 2 entries for 1 layers"):
        Shape(longer)


def test_a_state_does_not_grow_and_is_shared_out_by_heads() -> None:
    linear = LinearAttention(2, 4, 8, 8, 4)
    kinds = [Mixer.gated_delta, Mixer.full]
    shape = Shape(Architecture(**{**vars(SMALL), "linear": linear, "layer_kinds": kinds}))
    layers = SMALL.layers or 0
    # 4 heads' squares in 16 bits, and three tokens of what the convolution sees.
    assert shape.state_bytes_per_sequence(2) == layers / 2 * (4 * 64 * 2 + (2 * 16 + 32) * 3 * 2)
    assert shape.state_bytes_per_sequence(2, 4) == shape.state_bytes_per_sequence(2) / 4
    assert shape.kv_bytes(10, 2) == Shape(SMALL).kv_bytes(10, 2) / 2
    parts = {linear.part for linear in shape.linears}
    assert parts == {"linear_attention", "attention", "mlp"}


def test_sparse_attention_holds_everything_and_reads_what_it_chooses() -> None:
    sparse = {"layer_kinds": [Mixer.sparse], "indexer": Indexer(2, 128, 16)}
    shape = Shape(Architecture(**{**vars(SMALL), **sparse}))
    plain, layers = Shape(SMALL), SMALL.layers or 0
    # Keys of the indexer in fp8 with a float32 scale for 128.
    keys = 100 * layers * 132
    assert shape.kv_bytes(100, 2) == plain.kv_bytes(100, 2) + keys
    assert shape.kv_read_bytes(100, 2) == plain.kv_bytes(16, 2) + keys
    assert shape.kv_read_bytes(10, 2) == plain.kv_bytes(10, 2) + keys / 10, "fewer than it chooses"
    assert shape.attention_flops(100) == plain.attention_flops(16) + layers * 2 * 2 * 128 * 100
    # Every device chooses for itself.
    assert shape.kv_bytes(100, 2, 2) == plain.kv_bytes(100, 2, 2) + keys


def test_compressed_entries_and_the_window_are_cached() -> None:
    config = says(CASES["deepseek_v4_flash"]["says"])
    shape = Shape(read_architecture(config).architecture)
    context = 2**15
    held = 43 * 128 + 21 * context // 4 + 20 * context // 128
    read = 43 * 128 + 21 * 512 + 20 * context // 128
    keys = 21 * context // 4 * 132
    assert shape.kv_read_bytes(context, 2) == read * 512 * 2 + keys
    assert shape.kv_bytes(context, 2, 8) == held * 512 * 2 + keys


def test_matrices_are_told_apart_by_part_and_by_what_is_summed_over_devices() -> None:
    shape = Shape(read_architecture(MIXTURE).architecture)
    parts = [(x.part, x.inputs, x.outputs, x.count, x.reduces, x.kept) for x in shape.linears]
    assert parts == [
        ("attention", 64, 64, 12, False, False),
        ("attention", 64, 64, 4, True, False),
        ("router", 64, 4, 4, False, True),
        ("experts", 64, 32, 32, False, False),
        ("experts", 32, 64, 16, True, False),
    ]
    assert shape.linear_weights == sum(x.weights for x in shape.linears if not x.kept)
    assert isinstance(shape.linears[0], Linear)
