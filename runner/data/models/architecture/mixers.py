"""What each layer mixes tokens by, from the many ways in which a config.json says it."""

from collections.abc import Mapping
from typing import Any

from runner.config.schema.architecture import Mixer, Mlp
from runner.data.models.architecture.says import Says, Unreadable, by_layer

_KINDS = {
    "full_attention": Mixer.full,
    "attention": Mixer.full,
    "global": Mixer.full,
    "sliding_attention": Mixer.sliding,
    "chunked_attention": Mixer.sliding,
    "local": Mixer.sliding,
    "deepseek_sparse_attention": Mixer.sparse,
    "minimax_m3_sparse": Mixer.sparse,
    "compressed_sparse_attention": Mixer.sparse,
    "heavily_compressed_attention": Mixer.compressed,
    "conv": Mixer.convolution,
}
"""Names of ``layer_types``; those of layers with a state depend on the family."""
_STATEFUL = ("linear_attention", "mamba", "hybrid")
_ALONE = {"M": Mixer.mamba, "mamba": Mixer.mamba, "linear_attention": Mixer.mamba,
          "*": Mixer.full, "attention": Mixer.full, "full_attention": Mixer.full}  # fmt: skip
_ALONE_MLP = {"E": Mlp.experts, "moe": Mlp.experts, "-": Mlp.dense, "mlp": Mlp.dense}
"""Layers of Nemotron-H, each a mixer or an MLP."""


def single_blocks(says: Says) -> tuple[list[Mixer], list[Mlp]] | None:
    """Layers that are a mixer or an MLP alone (Nemotron-H); ``None`` of other models.

    Raises:
        Unreadable: One is of an unknown kind.
    """
    pattern = says.get("hybrid_override_pattern")
    blocks = list(pattern) if isinstance(pattern, str) else says.items("layers_block_type")
    if not blocks or not {*_ALONE_MLP} & {str(one) for one in blocks}:
        return None
    for one in blocks:
        if one not in _ALONE and one not in _ALONE_MLP:
            raise Unreadable(f"it has a layer of the unknown kind {one!r}")
    return (
        [_ALONE.get(one, Mixer.none) for one in blocks],
        [_ALONE_MLP.get(one, Mlp.none) for one in blocks],
    )


def mixers_of(says: Says, layers: int) -> list[Mixer]:
    """What each layer mixes tokens by; empty where all attend to everything.

    Raises:
        Unreadable: Something is of an unknown kind.
    """
    spare = says.spare
    if ratios := says.items("compress_ratios"):
        return _compressed(by_layer("compress_ratios", ratios, layers, spare))
    for name in ("layer_types", "layers_block_type"):
        if kinds := says.items(name):
            found = by_layer(name, [_kind(says, one) for one in kinds], layers, spare)
            return _indexed(says, _windowed(says, found))
    for read in (_by_number, _by_interval, _by_lists):
        if (found_ := read(says, layers)) is not None:
            return _windowed(says, found_)
    if says.means.get("mixer"):
        return [Mixer(says.means["mixer"])] * layers
    if unread := _unread(says.text):
        raise Unreadable(f"it describes layers by {unread}, which is not known")
    if says.get("index_topk") is not None:
        return [Mixer.sparse] * layers
    return _windows(says, layers)


def _kind(says: Says, name: Any) -> Mixer:
    if name in _STATEFUL:
        return _stateful(says, str(name))
    if name not in _KINDS:
        raise Unreadable(f"layer_types names the unknown kind of layer {name!r}")
    return _KINDS[name]


def _stateful(says: Says, name: str) -> Mixer:
    """Of layers whose names do not tell: by the family, else by the dimensions beside them."""
    if (kind := says.means.get("stateful")) is not None:
        return Mixer(kind)
    if name != "hybrid":
        if says.get("linear_num_value_heads") is not None:
            return Mixer.gated_delta
        if says.get("mamba_n_heads", "mamba_num_heads") is not None:
            return Mixer.mamba
    raise Unreadable(f"layer_types names {name}, and of what kind it is is not known")


def _by_number(says: Says, layers: int) -> list[Mixer] | None:
    """Lists of 0 and 1."""
    spare = says.spare
    sparse = says.get("sparse_attention_config")
    lists: tuple[tuple[str, Any, tuple[Mixer, Mixer]], ...] = (
        ("hybrid_layer_pattern", says.items("hybrid_layer_pattern"), (Mixer.full, Mixer.sliding)),
        ("attn_type_list", says.items("attn_type_list"), (Mixer.lightning, Mixer.full)),
        (
            "sparse_attention_freq",
            sparse.get("sparse_attention_freq") if isinstance(sparse, dict) else None,
            (Mixer.full, Mixer.sparse),
        ),
    )
    for name, values, kinds in lists:
        if values:
            entries = by_layer(name, values, layers, spare)
            if strange := [one for one in entries if one not in (0, 1)]:
                raise Unreadable(f"{name} has an entry {strange[0]!r}; 0 and 1 are known")
            return [kinds[int(one)] for one in entries]
    # No positions in every so many layers: those see everything (Llama 4).
    rope = says.items("no_rope_layers")
    if says.get("attention_chunk_size") is not None and says.means.get("chunked"):
        step = says.whole("no_rope_layer_interval") or 4
        has = rope or [int((number + 1) % step != 0) for number in range(layers)]
        has = by_layer("no_rope_layers", has, layers)
        return [Mixer.sliding if one else Mixer.full for one in has]
    return None


def _by_interval(says: Says, layers: int) -> list[Mixer] | None:
    """One layer in so many is another."""
    if (every := says.whole("full_attention_interval")) and says.get("linear_num_value_heads"):
        other = _stateful(says, "linear_attention")
        return [Mixer.full if (n + 1) % every == 0 else other for n in range(layers)]
    if period := says.whole("attn_layer_period"):
        offset, other = says.whole("attn_layer_offset") or 0, _stateful(says, "mamba")
        return [Mixer.full if n % period == offset else other for n in range(layers)]
    if (types := says.items("attention_types")) is not None:
        named = [kind for kinds, times in types for kind in list(kinds) * int(times)]
        return [_kind(says, one) for one in by_layer("attention_types", named, layers)]
    pattern = says.get("sliding_window_pattern")
    if isinstance(pattern, str) and pattern:
        if strange := set(pattern) - {"L", "G"}:
            raise Unreadable(f"sliding_window_pattern has {min(strange)!r}; L and G are known")
        letters = [pattern[n % len(pattern)] for n in range(layers)]
        return [Mixer.full if one == "G" else Mixer.sliding for one in letters]
    return None


def _by_lists(says: Says, layers: int) -> list[Mixer] | None:
    """Numbers of the layers of a kind."""
    if isinstance(linear := says.get("linear_attn_config"), dict):
        full = {*(linear.get("full_attn_layers") or ())}
        kda = {*(linear.get("kda_layers") or ())}
        if full & kda or full | kda != {*range(1, layers + 1)}:
            raise Unreadable("linear_attn_config does not name each layer once")
        return [Mixer.full if n + 1 in full else Mixer.kda for n in range(layers)]
    for name in ("attn_layer_indices", "full_attn_idxs"):
        if (places := says.items(name)) is not None:
            other = _stateful(says, "mamba")
            return [Mixer.full if n in places else other for n in range(layers)]
    return None


def _compressed(ratios: list[Any]) -> list[Mixer]:
    """DeepSeek-V4: layers of the smaller ratio choose among what is cached."""
    used = sorted({one for one in ratios if one})
    kinds = {0: Mixer.sliding, **dict.fromkeys(used, Mixer.compressed)}
    if used and used[0] < 128:
        kinds[used[0]] = Mixer.sparse
    return [kinds[one] for one in ratios]


def _windows(says: Says, layers: int) -> list[Mixer]:
    """By the window alone, and one layer in so many without it."""
    if window_of(says) is None:
        return []
    every = says.whole("sliding_window_pattern", "global_attn_every_n_layers")
    if every is not None:
        whole = range(every - 1, layers, every) if every else ()
        return [Mixer.full if n in whole else Mixer.sliding for n in range(layers)]
    first = says.whole("max_window_layers")
    if first is not None and says.get("use_sliding_window") is not None:
        return [Mixer.sliding if n >= first else Mixer.full for n in range(layers)]
    return [Mixer.sliding] * layers


def _windowed(says: Says, kinds: list[Mixer]) -> list[Mixer]:
    """Windowed layers without a window see everything."""
    if window_of(says) is not None:
        return kinds
    return [Mixer.full if one is Mixer.sliding else one for one in kinds]


def _indexed(says: Says, kinds: list[Mixer]) -> list[Mixer]:
    if says.get("index_topk") is None or Mixer.compressed in kinds:
        return kinds
    return [Mixer.sparse if one is Mixer.full else one for one in kinds]


def window_of(says: Says) -> int | None:
    """Tokens of the sliding window, or of a chunk; ``None`` without one."""
    if says.flag("use_sliding_window") is False:
        return None
    names = ["sliding_window", "sliding_window_size", "window_size"]
    if says.means.get("chunked"):
        names.append("attention_chunk_size")
    return says.whole(*names) or None


def _unread(text: Mapping[str, Any]) -> str | None:
    """A field that describes layers in a way that is not known here."""
    for name, value in text.items():
        if name.startswith("mtp") or not value or not isinstance(value, list | str | dict):
            continue
        if name.endswith(("_pattern", "layers_block_type", "layer_kinds", "block_types")) or (
            name in ("attn_layers", "mixer_types", "block_configs", "hybrid_pattern")
        ):
            return name
    return None
