"""Engine ``hf``: Hugging Face transformers."""

import logging

from runner.config.schema.kv_cache import KvCache
from runner.engines.base import CheckpointFacts, LoadSpec
from runner.engines.hf import cache as kv
from runner.engines.hf import deployed
from runner.engines.hf.model import HfModel
from runner.engines.hf.reading import GGUF_FAMILIES, read_checkpoint
from runner.engines.hf.settings import Hf
from runner.engines.instruments import torch_memory
from runner.engines.traits import HarnessModel, Tells, Traits

_FORMATS = (
    "float", "compressed-tensors", "bitsandbytes", "gptq", "awq", "gguf", "fp8", "modelopt",
    "auto-round", "hqq", "torchao",
)  # fmt: skip


class HfEngine:
    """transformers. What it loads is dequantized into a dense model, but for bitsandbytes.

    So of all other formats the quality is the recipe's, and the speed and the memory are not.
    """

    config = Hf
    packages = ("transformers", "torch", "compressed-tensors", "bitsandbytes", "gguf")
    dense_format = "float"
    traits = Traits(
        harness_model=HarnessModel.hf,
        reads_best=tuple(one for one in _FORMATS if one != "gguf"),
        tells=Tells.states,
        scores_in_batches=True,
        # It widens all but LLM.int8() when it loads, and bitsandbytes computes with what it stored.
        narrow_formats=("bitsandbytes",),
        unpacks_in_memory={
            "compressed-tensors": 2,
            **dict.fromkeys(("gptq", "awq", "gguf", "fp8", "modelopt", "auto-round"), 1),
        },
        unpacks_all_but=("nf4", "nf4-dq", "llm_int8"),
        kv_cache_formats=kv.FORMATS,
        kv_cache_apart=True,
        kv_cache_groups=True,
    )

    def refusal(self, checkpoint: CheckpointFacts) -> str | None:
        """Every format that the runner makes can be read."""
        family = checkpoint.config.get("model_type")
        if checkpoint.format == "gguf" and family is not None and family not in GGUF_FAMILIES:
            return (
                f"transformers does not read GGUF files of {family}, or reads them as another "
                f"model's; it reads {', '.join(GGUF_FAMILIES)}"
            )
        if checkpoint.format in _FORMATS:
            return None
        return (
            f"engine=hf does not read {checkpoint.format} checkpoints, only {', '.join(_FORMATS)}"
        )

    def kv_cache_refusal(self, kv_cache: KvCache, checkpoint: CheckpointFacts) -> str | None:
        """Layers that keep something else, groups that do not divide a head."""
        return kv.refusal(kv_cache, checkpoint.config)

    serve_measured = staticmethod(deployed.serve_measured)

    def server(self, *_: object) -> None:
        """None: ``transformers serve`` needs packages that its environment does not have."""
        return

    def load(self, spec: LoadSpec) -> HfModel:
        """Load and run one token, so that lazily unpacked weights are unpacked."""
        import torch

        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        model = read_checkpoint(spec)
        if spec.dtype != "auto":
            # bitsandbytes layers state their own arithmetic; the request overrides it.
            for module in model.modules():
                if hasattr(module, "compute_dtype"):
                    module.compute_dtype = getattr(torch, spec.dtype)
                # Else they compute in bfloat16 on a CPU that can, whatever ``compute_dtype`` says.
                if hasattr(module, "support_avx512bf16_for_cpu") and spec.dtype != "bfloat16":
                    module.support_avx512bf16_for_cpu = False
        if not spec.kv_cache.is_auto:
            kv.hold_in(model, spec.kv_cache)
        loaded = HfModel(
            model,
            spec.device,
            spec.checkpoint,
            wide_logits=spec.wide_logits,
            kv_cache=spec.kv_cache,
        )
        loaded.generate(batch_size=1, prompt_tokens=1, new_tokens=1)
        torch_memory.let_go_of_unused()
        return loaded


ENGINE = HfEngine()
