"""Widths of attention and of the states that stand in for it, from a config.json."""

from typing import Any

from runner.config.schema.architecture import (
    AttentionGate,
    Indexer,
    LinearAttention,
    Mamba,
    Mixer,
    SlidingHeads,
)
from runner.data.models.architecture.says import Says, Unreadable, by_layer


def heads(says: Says) -> dict[str, Any]:
    """Fields of ``Architecture`` about heads.

    Raises:
        Unreadable: Layers differ in a way that is not known.
    """
    number, hidden = says.whole("num_attention_heads"), says.whole("hidden_size")
    kv_heads = _kv_heads(says, number)
    latent = says.whole("kv_lora_rank")
    # Only the attention module's own rule (hidden / heads) when the config is silent.
    width = says.whole("head_dim") or (hidden // number if hidden and number else None)
    found: dict[str, Any] = {"heads": number, "kv_heads": kv_heads, "head_dim": width}
    if latent:
        found |= {
            "head_dim": says.whole("qk_nope_head_dim"),
            "kv_lora_rank": latent,
            "q_lora_rank": says.whole("q_lora_rank"),
            "rope_head_dim": says.whole("qk_rope_head_dim"),
            "value_head_dim": says.whole("v_head_dim"),
        }
        if not found["head_dim"]:
            raise Unreadable("it has latent attention, and does not say qk_nope_head_dim")
    elif (value := says.whole("v_head_dim")) and value != width:
        found["value_head_dim"] = value
    if rank := says.whole("o_lora_rank"):
        found |= {"output_lora_rank": rank, "output_groups": says.whole("o_groups")}
        found["q_lora_rank"] = says.whole("q_lora_rank")
        found["compress_ratios"] = _ratios(says)
        found["residual_streams"] = says.whole("hc_mult")
    found |= _windowed_heads(says, found)
    found["attention_gate"] = _gate(says)
    found["attention_bias"] = _bias(says)
    if shared := says.whole("num_kv_shared_layers"):
        found["kv_shared_layers"] = shared
    return found


def _kv_heads(says: Says, number: int | None) -> int | None:
    # Falcon's one head of keys and values, unless it is of the later architecture.
    if says.flag("multi_query") and not says.flag("new_decoder_architecture"):
        return 1
    if isinstance(attention := says.get("attn_config"), dict) and attention.get("kv_n_heads"):
        return int(attention["kv_n_heads"])
    if says.flag("multi_query_attention"):
        return says.whole("multi_query_group_num")
    return says.whole("num_key_value_heads") or number


def _windowed_heads(says: Says, all_heads: dict[str, Any]) -> dict[str, Any]:
    """Of windowed layers with heads of their own; Gemma 4 names those of the others."""
    if (wide := says.whole("global_head_dim")) and not says.get("per_layer_config"):
        same = says.flag("attention_k_eq_v")
        kv_heads = says.whole("num_global_key_value_heads") if same else None
        return {
            "head_dim": wide,
            "kv_heads": kv_heads or all_heads["kv_heads"],
            "keys_are_values": same,
            "sliding": SlidingHeads(kv_heads=all_heads["kv_heads"], head_dim=all_heads["head_dim"]),
        }
    own = SlidingHeads(
        heads=says.whole("swa_num_attention_heads", "num_sliding_attention_heads"),
        kv_heads=says.whole("swa_num_key_value_heads"),
        head_dim=says.whole("swa_head_dim"),
        value_head_dim=says.whole("swa_v_head_dim"),
    )
    if isinstance(other := says.get("attention_other_setting"), dict):
        own.heads = other.get("num_attention_heads") or own.heads
        own.kv_heads = other.get("num_attention_groups") or own.kv_heads
        own.head_dim = other.get("head_dim") or own.head_dim
    return {} if own == SlidingHeads() else {"sliding": own}


def _gate(says: Says) -> AttentionGate | None:
    said = says.flag("attn_output_gate", "attention_output_gate", "mla_use_output_gate")
    if said is not None:
        return AttentionGate.per_channel if said else None
    if (implied := says.means.get("attention_gate")) is not None:
        return AttentionGate(implied)
    if says.flag("use_head_wise_attn_gate"):
        return AttentionGate.per_head
    return None


def _bias(says: Says) -> bool | None:
    implied = says.means.get("attention_bias")
    said = says.flag("attention_bias", "qkv_bias", "attention_qkv_bias", "add_qkv_bias", "use_bias")
    return said if said is not None else implied


def _ratios(says: Says) -> list[int]:
    layers = says.whole("num_hidden_layers") or 0
    if given := says.items("compress_ratios"):
        return by_layer("compress_ratios", given, layers, says.spare)
    rates = says.get("compress_rates") or {}
    return [int(rates.get(kind) or 0) for kind in says.items("layer_types") or ()]


def indexer(says: Says) -> Indexer:
    """What chooses the tokens that sparse attention reads."""
    if isinstance(blocks := says.get("sparse_attention_config"), dict):
        chosen = (blocks.get("sparse_topk_blocks") or 0) * (blocks.get("sparse_block_size") or 0)
        return Indexer(
            heads=blocks.get("sparse_num_index_heads"),
            head_dim=blocks.get("sparse_index_dim"),
            tokens=chosen or None,
        )
    tokens = says.whole("index_topk")
    if tokens is None and (blocks_ := says.whole("index_topk_blocks")):
        tokens = blocks_ * (says.whole("index_block_size") or 0)
    own = None
    if types := says.items("indexer_types"):
        own = sum(one == "full" for one in types[: says.whole("num_hidden_layers") or 0])
    return Indexer(says.whole("index_n_heads"), says.whole("index_head_dim"), tokens, own)


def linear(says: Says, kinds: set[Mixer]) -> LinearAttention:
    """Widths of linear attention and short convolutions."""
    if Mixer.kda in kinds:
        given = says.get("linear_attn_config")
        own: dict[str, Any] = given if isinstance(given, dict) else {}
        width = own.get("head_dim") or says.whole("linear_head_dim", "linear_key_head_dim")
        number = own.get("num_heads") or says.whole("linear_num_heads", "linear_num_key_heads")
        kernel = own.get("short_conv_kernel_size") or says.whole("linear_conv_kernel_dim") or 4
        return LinearAttention(number, number, width, width, kernel, own.get("use_full_rank_gate"))
    if Mixer.lightning in kinds:
        number, width = says.whole("num_attention_heads"), heads(says)["head_dim"]
        return LinearAttention(number, number, width, width)
    if Mixer.convolution in kinds:
        return LinearAttention(convolution=says.whole("conv_L_cache") or 3)
    if Mixer.gated_delta not in kinds:
        return LinearAttention()
    return LinearAttention(
        key_heads=says.whole("linear_num_key_heads"),
        value_heads=says.whole("linear_num_value_heads"),
        key_head_dim=says.whole("linear_key_head_dim"),
        value_head_dim=says.whole("linear_value_head_dim"),
        convolution=says.whole("linear_conv_kernel_dim"),
    )


def mamba(says: Says, kinds: set[Mixer]) -> Mamba:
    """Widths of state space layers."""
    hidden = says.whole("hidden_size") or 0
    state = says.whole("ssm_state_size", "mamba_d_state", "state_size")
    kernel = says.whole("conv_kernel", "mamba_d_conv")
    inner = (says.whole("mamba_expand", "expand") or 2) * hidden
    if Mixer.mamba1 in kinds:
        return Mamba(
            heads=inner,
            head_dim=1,
            state=state,
            convolution=kernel,
            step_rank=says.whole("mamba_dt_rank", "time_step_rank") or -(-hidden // 16),
        )
    if not {Mixer.mamba, Mixer.parallel} & kinds:
        return Mamba()
    number = says.whole("mamba_num_heads", "mamba_n_heads", "num_heads")
    inner = says.whole("mamba_d_ssm") or inner
    width = says.whole("mamba_head_dim")
    if width is None and isinstance(given := says.get("mamba_d_head"), int):
        width = given
    return Mamba(
        heads=number,
        head_dim=width or (inner // number if number else None),
        groups=says.whole("n_groups", "mamba_n_groups", "mamba_ngroups"),
        state=state,
        convolution=kernel,
    )
