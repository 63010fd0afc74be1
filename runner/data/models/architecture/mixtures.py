"""What follows each layer's mixer, and what experts there are."""

from typing import Any

from runner.config.schema.architecture import Mlp
from runner.data.models.architecture.says import Says, Unreadable, by_layer

_EXPERTS = (
    "num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts",
    "num_routed_experts",
)  # fmt: skip
"""Names of one thing, by the family that uses them: Mixtral, DeepSeek, Qwen, Ernie."""
_PER_TOKEN = (
    "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts",
    "moe_topk", "moe_top_k", "moe_k",
)  # fmt: skip
_WIDTH = ("moe_intermediate_size", "expert_intermediate_size", "moe_ffn_hidden_size",
          "expert_ffn_hidden_size")  # fmt: skip
_SHARED = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert")
_SHARED_WIDTH = ("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size",
                 "share_expert_dim", "shared_intermediate_size")  # fmt: skip
_DENSE_FIRST = ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index")
_KINDS = {
    "dense": Mlp.dense, "mlp": Mlp.dense,
    "sparse": Mlp.experts, "moe": Mlp.experts, "hash_moe": Mlp.experts,
}  # fmt: skip


def experts_of(says: Says) -> int:
    """Routed experts of a layer; 0 in a dense model.

    Raises:
        Unreadable: Layers have different numbers.
    """
    if says.flag("enable_moe_block") is False:
        return 0
    return says.whole(*_EXPERTS) or 0


def mixture(says: Says, layers: int) -> dict[str, Any]:
    """Fields of ``Architecture`` about experts; empty in a dense model.

    Raises:
        Unreadable: The config does not say what is needed.
    """
    experts = experts_of(says)
    if not experts or (experts == 1 and not says.get(*_PER_TOKEN)):
        return {}
    if says.whole("zero_expert_num"):
        raise Unreadable("it has experts that compute nothing (zero_expert_num)")
    width = says.whole(*_WIDTH)
    kinds = _kinds(says, layers)
    first = 0
    while first < layers and kinds[first] is Mlp.dense:
        first += 1
    regular = all(kind is Mlp.experts for kind in kinds[first:])
    found: dict[str, Any] = {
        "experts": experts,
        "experts_per_token": says.whole(*_PER_TOKEN),
        "expert_intermediate": width or says.whole("intermediate_size"),
        "dense_layers": first or None if regular else None,
        "shared_experts": says.whole(*_SHARED),
    }
    shared = _shared_width(says, found["expert_intermediate"] or 0)
    if shared is not None:
        found["shared_intermediate"] = shared
    if not layers:
        found["dense_layers"] = says.whole(*_DENSE_FIRST)
    elif not regular:
        found["mlp_kinds"] = kinds
    if latent := says.whole("moe_latent_size", "routed_expert_hidden_size"):
        found["expert_hidden"] = latent
    return found


def _shared_width(says: Says, expert: int) -> int | None:
    """Of all shared experts together, where it is not that of as many routed ones."""
    width, number = says.whole(*_SHARED_WIDTH), says.whole(*_SHARED)
    if says.means.get("dense_beside"):
        return says.whole("intermediate_size")
    if width is None:
        return None
    # The width of one, of which there are several, or of all.
    together = width * number if number and says.means.get("shared_each") else width
    return None if number and together == number * expert else together


def _kinds(says: Says, layers: int) -> list[Mlp]:
    """Which layers have experts.

    Raises:
        Unreadable: A layer's kind is unknown.
    """
    spare = says.spare
    if named := says.items("mlp_layer_types"):
        entries = by_layer("mlp_layer_types", named, layers, spare)
        if strange := [one for one in entries if one not in _KINDS]:
            raise Unreadable(f"mlp_layer_types names the unknown kind of layer {strange[0]!r}")
        return [_KINDS[one] for one in entries]
    places = _places(says, layers, spare)
    return [Mlp.experts if n in places else Mlp.dense for n in range(layers)]


def _places(says: Says, layers: int, spare: int) -> set[int]:
    """Numbers of the layers with experts."""
    frequency = says.text.get("moe_layer_freq")
    if isinstance(frequency, list):
        entries = by_layer("moe_layer_freq", frequency, layers, spare)
        return {n for n, one in enumerate(entries) if one}
    listed = says.get("moe_layers", "moe_layers_enum")
    if listed is not None:
        entries = listed.split(",") if isinstance(listed, str) else listed
        return {int(one) for one in entries if str(one).strip()}
    if step := says.whole("interleave_moe_layer_step"):
        return {*range(step - 1, layers, step)}
    if period := says.whole("expert_layer_period"):
        offset = says.whole("expert_layer_offset") or 0
        return {n for n in range(layers) if n % period == offset}
    first, last = says.whole(*_DENSE_FIRST) or 0, says.whole("moe_layer_end_index")
    last = layers - 1 if last is None or last < 0 else last
    step = says.whole("moe_layer_freq", "moe_layer_interval", "decoder_sparse_step") or 1
    dense = {*(says.items("mlp_only_layers") or ())}
    if says.get("moe_layer_freq") is not None and says.get("decoder_sparse_step") is None:
        found = {n for n in range(first, last + 1) if n % step == 0}
    else:
        found = {n for n in range(first, last + 1) if (n + 1) % step == 0}
    return found - dense
