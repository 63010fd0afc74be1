"""What a config.json says of the language model in it, by the names that most families use."""

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")
"""Where models of several kinds of input keep their language model."""
_OTHER_NAMES = {
    "hidden_size": ("n_embd", "d_model"),
    "intermediate_size": ("block_ff_dim", "ffn_dim", "ffn_hidden_size", "n_inner"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "max_position_embeddings": ("n_positions", "n_ctx", "max_seq_len", "seq_length"),
    "num_key_value_heads": ("num_kv_heads", "n_head_kv", "num_attention_groups"),
    "head_dim": ("attention_head_dim", "kv_channels"),
    "vocab_size": ("padded_vocab_size",),
}
"""Names that older families have for the usual ones: GPT-2, GPT-J, OPT, Falcon, BLOOM, MPT, GLM."""


class Unreadable(Exception):
    """A config.json describes what cannot be counted; the message says what."""


class Says:
    """The text part of a config.json."""

    def __init__(self, hf_config: Mapping[str, Any]) -> None:
        """Find it, and the family's habits."""
        text = dict(hf_config)
        for name in _PARTS:
            if isinstance(part := text.get(name), dict) and part:
                kept = {key: text[key] for key in ("tie_word_embeddings",) if key in text}
                # The whole model's word about the head counts, the part's repeats defaults.
                text = {"model_type": text.get("model_type"), **part, **kept}
        if isinstance(part := text.get("ffn_config"), dict):
            text = {**part, **text}  # DBRX's
        self.has_other_inputs = any(
            key.endswith("_config") and ("vision" in key or "audio" in key) and value
            for key, value in hf_config.items()
        )
        family = text.get("model_type")
        self.family: str | None = family if isinstance(family, str) else None
        known = families()
        self.known = self.family in known
        entry = known.get(self.family or "") or {}
        if isinstance(alias := entry.get("as"), str):
            entry = {**known[alias], **entry}
        self.means: Mapping[str, Any] = entry.get("means") or {}
        """What the family implies: fields of ``Architecture``."""
        self.cannot: str | None = entry.get("cannot")
        """Why the family cannot be counted."""
        for name, others in _OTHER_NAMES.items():
            if text.get(name) is None:
                text[name] = next((text[one] for one in others if text.get(one) is not None), None)
        silent = entry.get("silent") or {}
        text |= {name: value for name, value in silent.items() if text.get(name) is None}
        self.text = text

    @property
    def spare(self) -> int:
        """Entries that lists by layer may have behind those of the layers: of MTP."""
        return self.whole("num_nextn_predict_layers") or 0

    def get(self, *names: str) -> Any:
        """The first of these fields that says anything."""
        return next((self.text[one] for one in names if self.text.get(one) is not None), None)

    def whole(self, *names: str) -> int | None:
        """The same, of whole numbers; of a list by layer the one that all layers have.

        Raises:
            Unreadable: It is something else.
        """
        for name in names:
            value = self.text.get(name)
            if value is None:
                continue
            if isinstance(value, list) and value:
                if any(one != value[0] for one in value):
                    raise Unreadable(f"{name} differs from layer to layer")
                value = value[0]
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or value < 0 or value != value // 1:
                raise Unreadable(f"it says {name}={value!r}, which should be a whole number")
            return int(value)
        return None

    def items(self, name: str) -> list[Any] | None:
        """A field's list; ``None`` where it is none or empty."""
        value = self.text.get(name)
        return value if isinstance(value, list) and value else None

    def flag(self, *names: str) -> bool | None:
        """A field that is true or false."""
        value = self.get(*names)
        return None if value is None else bool(value)


def by_layer(name: str, values: Iterable[Any], layers: int, spare: int = 0) -> list[Any]:
    """A list's entries for the layers; behind them may be those of layers that predict further.

    Raises:
        Unreadable: Their number is another.
    """
    entries = list(values)
    if not layers <= len(entries) <= layers + max(spare, 0):
        raise Unreadable(f"{name} has {len(entries)} entries for {layers} layers")
    return entries[:layers]


def as_family(hf_config: Mapping[str, Any], family: str) -> dict[str, Any]:
    """A config.json whose text part is of another family."""
    for name in _PARTS:
        if isinstance(part := hf_config.get(name), dict) and part:
            return {**hf_config, name: {**part, "model_type": family}}
    return {**hf_config, "model_type": family}


@functools.cache
def families() -> dict[str, dict[str, Any]]:
    """What is known of each family, by ``model_type``."""
    path = Path(__file__).with_name("families.yaml")
    content: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text("utf-8"))
    return content
