"""Layers that a config.json makes exceptions of (``per_layer_config`` of transformers 5)."""

from typing import Any

from runner.config.schema.architecture import Mixer, SlidingHeads
from runner.data.models.architecture.says import Says, Unreadable

_HEADS = {
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "head_dim": "head_dim",
    "v_head_dim": "value_head_dim",
}


def exceptions(says: Says, kinds: list[Mixer], found: dict[str, Any]) -> dict[str, Any]:
    """Fields of ``Architecture`` for layers with widths of their own.

    Args:
        says: The config.json.
        kinds: What each layer mixes tokens by.
        found: The fields as all other layers have them.

    Raises:
        Unreadable: They differ in something that is not counted by layer, or among layers alike.
    """
    given = says.get("per_layer_config")
    if not isinstance(given, dict) or not given:
        return {}
    layers = [_of_layer(given, number, kind) for number, kind in enumerate(kinds)]
    changed: dict[str, Any] = {}
    widths = [own.pop("intermediate_size", None) for own in layers]
    if any(widths):
        changed["layer_intermediates"] = [one or found["intermediate"] or 0 for one in widths]
    for kind in dict.fromkeys(kinds):
        own = [one for one, other in zip(layers, kinds, strict=True) if other is kind]
        if any(one != own[0] for one in own):
            raise Unreadable("per_layer_config makes layers differ that are of one kind")
        if not own[0]:
            continue
        if unknown := {*own[0]} - {*_HEADS}:
            raise Unreadable(f"per_layer_config changes {min(unknown)}, which is not known")
        heads = {_HEADS[name]: int(value) for name, value in own[0].items()}
        if kind is Mixer.sliding:
            changed["sliding"] = SlidingHeads(**heads)
        elif kind is Mixer.full:
            # Windowed layers keep what is said of the model.
            kept = {name: found.get(name) for name in heads}
            changed |= {**heads, "sliding": changed.get("sliding") or SlidingHeads(**kept)}
        else:
            raise Unreadable(f"per_layer_config changes layers of {kind.value}")
    return changed


def _of_layer(given: dict[str, Any], number: int, kind: Mixer) -> dict[str, Any]:
    own: dict[str, Any] = {}
    for key, values in given.items():
        named = key == f"{kind.value}_attention"
        if not isinstance(values, dict):
            raise Unreadable(f"per_layer_config has {key}={values!r}, which should be an object")
        if not named and not str(key).isdigit() and not str(key).endswith("_attention"):
            raise Unreadable(f"per_layer_config names {key}, which is no layer")
        if named or (str(key).isdigit() and int(key) == number):
            own |= values
    return own
