"""What engines keep free of the KV cache, by version: the constants of ``data/kv_room.yaml``."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from runner.util.yaml_files import load

GIB = 2**30
_FILE = Path(__file__).resolve().parents[1] / "data" / "kv_room.yaml"
_SIZES = (70 * GIB, 160 * GIB)
"""Memory from which vLLM's defaults are larger, and largest."""
_SMALL_OF_ANY_SIZE = ("8.0", "12.1")
"""Compute capabilities of what it counts as small whatever its memory: A100 and GB10."""


@dataclass(frozen=True)
class Rules:
    """What an engine does from a version on."""

    label: str
    """Engine and version, as a reader should see them."""
    batched_tokens: tuple[int, ...]
    """Prompt tokens in one step by default, on small, large and largest devices."""
    sequences: tuple[int, ...]
    """Sequences in one step by default, likewise."""
    logit_bytes: float
    """Memory for one sequence and entry of the vocabulary while the first token is drawn."""
    context_gibibytes: float
    """What counts as in use beside PyTorch's memory, on one device."""
    utilization: float = 0.9
    """Share of a device that it uses by default."""
    graph_mebibytes: float = 0.0
    """Of a CUDA graph in one layer, where graphs are taken from the engine's share."""
    communication_gibibytes: Mapping[str, float] = field(default_factory=dict)
    """Buffers among devices, joined ``direct`` or ``switched``; what is not named is 0."""
    whole_prompts_to: int = 0
    """Longest context for which a step holds a whole prompt by default."""
    counts_blocks: bool = True
    """Whether tokens are those of blocks, and not those of sequences that fit."""
    logits_of_every_token: bool = False
    """Whether each token of a step has logits, and not each sequence."""
    reserves_the_rest: bool = False
    """Whether the share is of weights and cache alone, and all else takes what it leaves."""


@dataclass(frozen=True)
class Spread:
    """Multiples of the expected overhead between which 80% of the logs lie."""

    low: float
    high: float


def rules_of(engine: str | None = None, date: str | None = None) -> Rules:
    """The rules of an engine such as ``vllm``, ``vllm 0.8.5`` or ``sglang``.

    Of an engine whose logs nobody has looked at, and without a name, those of the default: the
    label of the rules says so.

    Args:
        engine: Its name, with or without a version.
        date: Year and month when it ran, ``2026-05``: without a version, the newest of that time;
            ``None``: the newest of all.
    """
    return _found(engine or "", date or "")


def spread() -> Spread:
    """How far the logs lie from what is expected."""
    return Spread(**_file()["spread"])


def default_step(
    rules: Rules, memory: float, context: int, compute_capability: str | None
) -> tuple[int, int]:
    """Tokens and sequences of the largest step, where nobody has set them.

    Args:
        rules: Of the engine.
        memory: Of a device, in bytes.
        context: Longest sequence, in tokens.
        compute_capability: Of a CUDA device.
    """
    small = compute_capability in _SMALL_OF_ANY_SIZE
    size = 0 if small else sum(memory >= least for least in _SIZES)
    tokens = rules.batched_tokens[size]
    if context <= rules.whole_prompts_to:
        tokens = max(tokens, context)
    return tokens, rules.sequences[size]


@functools.cache
def _file() -> dict[str, Any]:
    content: dict[str, Any] = OmegaConf.to_container(load(_FILE))  # type: ignore[assignment]
    return content


@functools.lru_cache(maxsize=1024)
def _found(engine: str, date: str) -> Rules:
    content = _file()
    name, _, version = engine.partition(" ")
    if name not in content["engines"]:
        name, version = content["default"], ""
    asked = _parts(version)
    rows = [
        row
        for row in content["engines"][name]
        if (_parts(row["since"]) <= asked if asked else not date or row.get("released", "") <= date)
    ]
    row = dict(rows[-1])
    row.pop("released", None)
    since = row.pop("since")
    row["batched_tokens"], row["sequences"] = tuple(row["batched_tokens"]), tuple(row["sequences"])
    row.setdefault("communication_gibibytes", content["communication_gibibytes"])
    return Rules(label=f"{name} from {since}" if _parts(since) > (0,) else name, **row)


def _parts(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
