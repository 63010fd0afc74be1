"""AWQ through AutoAWQ 0.2.9, archived, with transformers 4.51."""

from typing import Any

from runner.data.models.load import accounted
from runner.methods.backends import packed
from runner.methods.backends.legacy_model import legacy_view
from runner.methods.base import ModelConfig, QuantizeJob

FAMILIES = frozenset(
    (
        "bloom", "cohere", "deepseek_v3", "falcon", "gemma", "gemma2", "gpt_bigcode",
        "gpt_neox", "gptj", "llama", "mistral", "mixtral", "mpt", "phi3", "qwen2", "qwen3",
        "qwen3_moe", "stablelm", "starcoder2",
    )
)  # fmt: skip
"""Values of ``model_type`` that AutoAWQ can do with transformers 4.51. Its class for OPT asks for
rotary positions there."""


_PACKED_TOGETHER = 8
"""Outputs of 4 bits in a 32-bit integer."""


def model_refusal(config: ModelConfig) -> str | None:
    """Why AutoAWQ cannot do a model."""
    if config.get("model_type") == "falcon" and not config.get("new_decoder_architecture"):
        return "AutoAWQ supports Falcon only with new_decoder_architecture=true"
    experts = config.get("num_experts") or config.get("num_local_experts") or 0
    if config.get("model_type") == "qwen3_moe" and experts % _PACKED_TOGETHER:
        return (
            f"AutoAWQ packs Qwen3-MoE's router too, {_PACKED_TOGETHER} experts into a word; the "
            f"model has {experts}"
        )
    return packed.family_refusal("AutoAWQ", config, FAMILIES)


_SAMPLES_AT_ONCE = 8
"""Calibration windows that go through a block together; it only bounds the memory."""


def quantize_awq(
    job: QuantizeJob, *, zero_point: bool, version: str, duo_scaling: bool, clip: bool
) -> None:
    """Write an AWQ checkpoint.

    Args:
        job: What to quantize.
        zero_point: A grid with a zero point, the only one AutoAWQ can pack.
        version: ``GEMM`` or ``GEMV``, how integers are packed.
        duo_scaling: Take the magnitudes of weights into account for the scales too.
        clip: Search a range narrower than the weights' own.
    """
    import torch
    from awq import AutoAWQForCausalLM

    with accounted(job.model_directory):
        model = AutoAWQForCausalLM.from_pretrained(
            str(legacy_view(job)),
            torch_dtype=getattr(torch, job.compute_dtype),
            trust_remote_code=job.trust_remote_code,
            # It takes blocks to the GPU itself; what "auto" had left no room for there is lost.
            device_map="cpu",
        )
    ignored = packed.ignored_layers(model.model, job.recipe.method.ignore)
    group_size = packed.group_size(job)
    bits = job.recipe.bits.weight.num_bits
    model.quantize(
        quant_config={
            "zero_point": zero_point,
            "q_group_size": group_size,
            "w_bit": bits,
            "version": version,
        },
        # Windows of one length go in as token ids: none is dropped, joined or cut.
        calib_data=job.windows,
        max_calib_samples=len(job.windows),
        max_calib_seq_len=len(job.windows[0]),
        n_parallel_calib_samples=_SAMPLES_AT_ONCE,
        duo_scaling=duo_scaling,
        apply_clip=clip,
        quantizer_cls=_quantizer(job, {model.model.get_submodule(name) for name in ignored}),
    )
    packed.write_checkpoint(
        job,
        model.model.state_dict(),
        {
            "quant_method": "awq",
            "bits": bits,
            "group_size": group_size,
            "zero_point": zero_point,
            "version": version.lower(),
            "modules_to_not_convert": ignored or None,
        },
    )


def _quantizer(job: QuantizeJob, ignored: set[Any]) -> type[Any]:
    """AutoAWQ's quantizer; it tells its progress and leaves some layers' weights unrounded."""
    from awq.quantize.quantizer import AwqQuantizer

    class Quantizer(AwqQuantizer):  # type: ignore[misc]
        blocks_done = 0

        def _get_input_feat(self, layer: Any, named_linears: dict[str, Any]) -> Any:
            what = "searching scales and rounding blocks"
            job.progress(self.blocks_done, len(self.modules), what)
            self.blocks_done += 1
            return super()._get_input_feat(layer, named_linears)

        def _apply_quant(self, module: Any, named_linears: dict[str, Any]) -> None:
            rounded = {name: one for name, one in named_linears.items() if one not in ignored}
            super()._apply_quant(module, rounded)

    return Quantizer
