"""Ternary weights: minus one, zero or one, times one scale an output channel."""

from dataclasses import dataclass
from types import MappingProxyType

from runner.config.schema.calibration import Calibration
from runner.config.schema.method import Method
from runner.methods.base import Capabilities, QuantizeJob
from runner.methods.recipe import Recipe


@dataclass
class Ternary(Method):
    """Knobs of ternary rounding."""

    backend: str = "transformers"
    threshold: float = 0.5
    """Weights smaller than this part of the scale become zero."""


class TernaryMethod:
    """Absmean rounding with plain torch."""

    config = Ternary
    backends = MappingProxyType(
        {
            "transformers": Capabilities(
                bits=("w2a16",),
                group_sizes=("per_channel",),
                checkpoint_format="float",
                packages=("transformers", "torch"),
            )
        }
    )

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """Looks at no text."""
        return None

    def quantize(self, job: QuantizeJob) -> None:
        """Round every linear layer, save."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        options = job.recipe.method
        assert isinstance(options, Ternary)
        model = AutoModelForCausalLM.from_pretrained(job.model_directory, dtype="auto")
        layers = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and name not in options.ignore
        }
        for done, layer in enumerate(layers.values()):
            job.progress(done, len(layers), "rounding layers")
            weight = layer.weight.data.to(getattr(torch, job.compute_dtype))
            scale = weight.abs().mean(dim=1, keepdim=True)
            rounded = scale * weight.sign() * (weight.abs() > options.threshold * scale)
            layer.weight.data = rounded.to(layer.weight.dtype)
        model.save_pretrained(job.checkpoint_directory)
        AutoTokenizer.from_pretrained(job.model_directory).save_pretrained(job.checkpoint_directory)


METHOD = TernaryMethod()
