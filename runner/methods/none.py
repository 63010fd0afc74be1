"""No quantization: the model as it is, or cast to another float type."""

from dataclasses import dataclass
from types import MappingProxyType

from runner.config.schema.calibration import Calibration
from runner.config.schema.method import Method
from runner.data.models.directory import save_weights
from runner.data.models.load import load_model
from runner.methods.base import Capabilities, Onloading, QuantizeJob
from runner.methods.recipe import Recipe

_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


@dataclass
class Cast(Method):
    """No options."""

    backend: str = "transformers"

    @property
    def is_identity(self) -> bool:
        """It is."""
        return True


class NoneMethod:
    """Keeps every weight, in the float type that ``bits`` names."""

    config = Cast
    mark = 7
    backends = MappingProxyType(
        {
            "transformers": Capabilities(
                bits=tuple(_DTYPES),
                group_sizes=("per_tensor", "per_channel", "g*"),
                checkpoint_format="float",
                packages=("transformers", "torch"),
                holders=None,
                # It never leaves the machine's memory.
                onloading=Onloading(),
            )
        }
    )

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """Looks at no text."""
        return None

    def quantize(self, job: QuantizeJob) -> None:
        """Cast and save."""
        import torch

        dtype = getattr(torch, _DTYPES[job.recipe.bits.label])
        model = load_model(
            job.model_directory, dtype=dtype, trust_remote_code=job.trust_remote_code
        )
        save_weights(model, job.checkpoint_directory)


METHOD = NoneMethod()
