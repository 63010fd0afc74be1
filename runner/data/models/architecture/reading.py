"""Reads a model's dimensions from its config.json, or says why it cannot."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from runner.config.schema.architecture import Architecture, Mixer
from runner.data.models.architecture import attention
from runner.data.models.architecture.exceptions import exceptions
from runner.data.models.architecture.mixers import mixers_of, single_blocks, window_of
from runner.data.models.architecture.mixtures import experts_of, mixture
from runner.data.models.architecture.says import Says, Unreadable
from runner.data.models.architecture.searched_blocks import searched_blocks

_FOUR_TIMES = ("gpt2", "gpt_bigcode", "gptj", "gpt_neo", "falcon", "bloom", "mpt", "codegen")
"""Families whose MLP is four times as wide as the model where the config does not say."""
_FIELDS = frozenset(one.name for one in fields(Architecture))


@dataclass(frozen=True)
class Reading:
    """What a config.json says of a model's dimensions."""

    architecture: Architecture
    """As far as they could be read."""
    problem: str | None = None
    """Why the layers cannot be counted."""
    known_family: bool = True
    """Whether the family is known: another is read by the names of its fields."""
    notes: tuple[str, ...] = ()
    """What of the model is not counted."""


def architecture_of(hf_config: Mapping[str, Any]) -> Architecture:
    """Read the dimensions from the content of a Hugging Face ``config.json``."""
    return read_architecture(hf_config).architecture


def read_architecture(hf_config: Mapping[str, Any]) -> Reading:
    """Read the dimensions, and what is wrong with them, if anything."""
    says = Says(hf_config)
    if says.cannot is not None:
        return Reading(_basics(says), says.cannot)
    try:
        return Reading(_read(says), None, says.known, _notes(says))
    except Unreadable as error:
        return Reading(_basics(says), str(error), says.known)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, ZeroDivisionError):
        # One of a hundred fields holds what none of its family does.
        return Reading(_basics(says), "its fields do not fit together", says.known)


def _basics(says: Says) -> Architecture:
    """What a model has whatever its layers are; enough for its tables and its longest text."""

    def whole(name: str) -> int | None:
        try:
            return says.whole(name)
        except Unreadable:
            return None

    try:
        experts = experts_of(says) or None
    except Unreadable:
        experts = None
    return Architecture(
        family=says.family,
        layers=whole("num_hidden_layers"),
        hidden=whole("hidden_size"),
        vocab=whole("vocab_size"),
        context=whole("max_position_embeddings"),
        tied_embeddings=says.flag("tie_word_embeddings"),
        experts=experts,
    )


def _read(says: Says) -> Architecture:
    blocks = single_blocks(says)
    searched = searched_blocks(says)
    if blocks:
        says.text["num_hidden_layers"] = len(blocks[0])
    layers = says.whole("num_hidden_layers") or len(says.items("layer_types") or ())
    found: dict[str, Any] = vars(_basics(says)) | attention.heads(says) | _mlp(says)
    experts = mixture(says, layers)
    if blocks:
        kinds, found["mlp_kinds"] = blocks
        experts.pop("mlp_kinds", None)
    elif searched:
        kinds = searched["layer_kinds"]
        found |= searched
    else:
        kinds = mixers_of(says, layers)
    every = kinds or [Mixer.full] * layers
    found |= experts | {"layer_kinds": _shortest(kinds)} | exceptions(says, every, found)
    if "mlp_kinds" in found:
        found["mlp_kinds"] = _shortest(found["mlp_kinds"])
    window = window_of(says)
    found["sliding_window"] = window
    if window is not None and not blocks:
        found |= _as_interval(kinds)
    mixers = set(kinds)
    found["linear"] = attention.linear(says, mixers)
    found["mamba"] = attention.mamba(says, mixers)
    if Mixer.sparse in mixers:
        found["indexer"] = attention.indexer(says)
    found["state_bits"] = _state_bits(says)
    for name, value in says.means.items():
        if name in _FIELDS and found.get(name) is None:
            found[name] = value
    if width := says.whole("word_embed_proj_dim"):
        found["embedding_width"] = width
    if (narrow := says.whole("hidden_size_per_layer_input")) and narrow > 0:
        found["layer_embedding"] = narrow
        found["layer_embedding_vocab"] = says.whole("vocab_size_per_layer_input")
    if rows := says.means.get("position_rows"):
        found["learned_positions"] = (says.whole("max_position_embeddings") or 0) + (rows - 1)
    return Architecture(**{name: value for name, value in found.items() if name in _FIELDS})


def _mlp(says: Says) -> dict[str, Any]:
    hidden, inner = says.whole("hidden_size"), says.text.get("intermediate_size")
    if isinstance(inner, list):
        return {"layer_intermediates": _shortest([int(one) for one in inner])}
    wide = says.whole("intermediate_size")
    if wide is None and hidden and says.family in _FOUR_TIMES:
        wide = 4 * hidden
    if wide and says.flag("block_auto_adjust_ff_dim"):
        # LFM2: two thirds, times a factor, to the next multiple.
        wide = int((says.get("block_ffn_dim_multiplier") or 1) * int(2 * wide / 3))
        wide = -(-wide // (multiple := says.whole("block_multiple_of") or 1)) * multiple
    for name in ("intermediate_size_mlp", "dense_intermediate_size"):
        # What is said of the experts is the other (Llama 4, MiniMax-M3).
        wide = says.whole(name) or wide
    shared, layers = says.whole("num_kv_shared_layers") or 0, says.whole("num_hidden_layers") or 0
    if wide and shared and says.flag("use_double_wide_mlp"):
        own = [wide * (2 if number >= layers - shared else 1) for number in range(layers)]
        return {"intermediate": wide, "layer_intermediates": own}
    return {"intermediate": wide}


def _shortest(values: list[Any]) -> list[Any]:
    """The pattern of which a list is the repetition."""
    for length in range(1, len(values) // 2 + 1):
        if all(one == values[n % length] for n, one in enumerate(values)):
            return values[:length]
    return values


def _as_interval(kinds: list[Mixer]) -> dict[str, Any]:
    """The plain way of saying where windowed layers lie, where it can be said so."""
    if not kinds or {*kinds} - {Mixer.full, Mixer.sliding} or Mixer.sliding not in kinds:
        return {}
    if Mixer.full not in kinds:
        return {"layer_kinds": [], "global_layer_interval": None}
    every = kinds.index(Mixer.full) + 1
    if all((one is Mixer.full) == ((n + 1) % every == 0) for n, one in enumerate(kinds)):
        return {"layer_kinds": [], "global_layer_interval": every}
    return {}


def _state_bits(says: Says) -> int | None:
    kind = says.get("mamba_ssm_dtype", "mamba_ssm_cache_dtype")
    return {"float32": 32, "bfloat16": 16, "float16": 16}.get(str(kind))


def _notes(says: Says) -> tuple[str, ...]:
    notes = []
    if says.has_other_inputs:
        notes.append("the language model alone is counted, without its vision or audio tower")
    ahead = says.whole("num_nextn_predict_layers", "num_mtp_modules", "mtp_num_hidden_layers")
    if ahead:
        notes.append("layers that predict further tokens (MTP) are not counted")
    return tuple(notes)
