"""Runs llama.cpp's converter, which identifies a byte-level tokenizer by a digest.

The digest is of one text's token ids, so that it tells published vocabularies, not how a tokenizer
cuts text: a vocabulary of one's own is unknown whatever its rules. Where the digest is unknown, the
rules decide, as ``tokenizer.json`` states them, if they are exactly those of a pre-tokenizer that
llama.cpp has. Else the converter's own refusal stands.
"""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

from runner.data.models.older_names import unsaid

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_BY_PATTERN = {
    _CONTRACTIONS + _WORDS + r"|\p{N}{1,3}" + _REST: "llama-bpe",
    _CONTRACTIONS + _WORDS + r"|\p{N}" + _REST: "qwen2",
}
"""llama.cpp's names of pre-tokenizers that are one pattern, and then bytes."""
_NORMALIZERS = {"qwen2": ("NFC", None)}
"""What may be done to a text first: llama.cpp leaves it as it is."""

_OF_ITS_OWN = ("gguf",)
"""Packages that lie beside it in its own version."""


def pre_tokenizer_name(rules: dict[str, Any]) -> str | None:
    """llama.cpp's name of a tokenizer's way to cut text.

    Args:
        rules: Content of ``tokenizer.json``.
    """
    steps = rules.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", []) if steps.get("type") == "Sequence" else [steps]
    *first, last = steps or [{}]
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space") or len(first) > 1:
        return None
    name = None
    if last.get("use_regex", True):
        digits = [{"type": "Digits", "individual_digits": True}]
        name = "gpt-2" if not first else "smollm" if first == digits else None
    elif first and first[0].get("type") == "Split" and not first[0].get("invert"):
        pattern = first[0].get("pattern", {}).get("Regex")
        name = _BY_PATTERN.get(pattern) if first[0].get("behavior") == "Isolated" else None
    kind = (rules.get("normalizer") or {}).get("type")
    return name if kind in _NORMALIZERS.get(name or "", (None,)) else None


def add_older_names(config: dict[str, Any]) -> dict[str, Any]:
    """Give a config the names that it had before transformers 5, which the converter asks for."""
    kind, rope = config.get("model_type"), config.get("rope_parameters") or {}
    if kind == "gpt2":
        config.setdefault("n_ctx", config.get("n_positions"))
    elif kind == "gpt_neox" and "partial_rotary_factor" in rope:
        config.setdefault("rotary_pct", rope["partial_rotary_factor"])
    elif kind == "falcon" and config.get("multi_query"):
        # Newer releases write the number of heads here, and take no notice of it.
        one = not config.get("new_decoder_architecture")
        config["num_kv_heads"] = 1 if one else config.get("num_kv_heads")
    # Without it llama.cpp weighs DeepSeek-V3's experts by a softmax.
    return {**config, **unsaid(config)}


def main(script: str, *arguments: str) -> None:
    """Run the converter with this command line, in a process of its own.

    It imports from its own folder first, whatever this process has imported of the same names.
    """
    folder = Path(script).parent
    sys.path[:0] = [str(folder), str(folder / "gguf-py")]
    for name in [name for name in sys.modules if name.split(".")[0] in _OF_ITS_OWN]:
        del sys.modules[name]
    from conversion.base import ModelBase, TextModel  # type: ignore[import-not-found]

    by_digest = TextModel.get_vocab_base_pre

    def by_digest_or_rules(self: Any, tokenizer: Any) -> str:
        try:
            known: str = by_digest(self, tokenizer)
        except NotImplementedError:
            backend = getattr(tokenizer, "backend_tokenizer", None)
            name = backend and pre_tokenizer_name(json.loads(backend.to_str()))
            if not name:
                raise
            return name
        return known

    load = ModelBase.load_hparams

    def with_older_names(directory: Path, is_mistral_format: bool) -> dict[str, Any]:
        return add_older_names(load(directory, is_mistral_format))

    TextModel.get_vocab_base_pre = by_digest_or_rules
    ModelBase.load_hparams = staticmethod(with_older_names)
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
