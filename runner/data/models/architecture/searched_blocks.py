"""Layers of models that were found by a search, each of its own width (Llama-Nemotron)."""

from typing import Any

from runner.config.schema.architecture import Mixer, Mlp
from runner.data.models.architecture.says import Says, Unreadable, by_layer

_MULTIPLE = 256


def searched_blocks(says: Says) -> dict[str, Any] | None:
    """Fields of ``Architecture`` by layer; ``None`` of models that name no blocks.

    Raises:
        Unreadable: A block is of a kind that is not known.
    """
    given = says.items("block_configs")
    if given is None:
        return None
    layers = says.whole("num_hidden_layers") or 0
    heads, hidden = says.whole("num_attention_heads") or 0, says.whole("hidden_size") or 0
    kinds, mlps, widths, kv_heads = [], [], [], []
    for number, block in enumerate(by_layer("block_configs", given, layers)):
        attention, mlp = _part(block, "attention", number), _part(block, "ffn", number)
        kinds.append(Mixer.none if attention.get("no_op") else Mixer.full)
        mlps.append(Mlp.none if mlp.get("no_op") else Mlp.dense)
        group = attention.get("n_heads_in_group") or 0
        if kinds[-1] is Mixer.full and not group:
            raise Unreadable(f"block_configs does not say n_heads_in_group of layer {number}")
        kv_heads.append(heads // group if group else 1)
        times = mlp.get("ffn_mult") or 0
        if mlps[-1] is Mlp.dense and not times:
            raise Unreadable(f"block_configs does not say ffn_mult of layer {number}")
        # Two thirds of the multiple, to the next 256: as the model's own code rounds.
        widths.append(-(-int(2 * times * hidden / 3) // _MULTIPLE) * _MULTIPLE)
    return {
        "layer_kinds": kinds,
        "mlp_kinds": mlps,
        "layer_intermediates": widths,
        "layer_kv_heads": kv_heads,
        "kv_heads": max(kv_heads),
        "intermediate": max(widths),
    }


def _part(block: Any, name: str, number: int) -> dict[str, Any]:
    part = block.get(name) if isinstance(block, dict) else None
    if not isinstance(part, dict):
        raise Unreadable(f"block_configs has no {name} in layer {number}")
    for unknown in ("replace_with_linear", "sparsify", "window_length", "num_sink_tokens"):
        if part.get(unknown):
            raise Unreadable(f"block_configs has {unknown} in layer {number}, which is not counted")
    return part
