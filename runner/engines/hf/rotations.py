"""Rotations that a compressed-tensors checkpoint leaves to its reader.

transformers 5.17 does not know ``transform_config``: it says that the matrices are unexpected and
goes on with weights that fit rotated inputs alone. So they are attached here, by the library that
wrote them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.data.models.config_json import read_config
from runner.data.models.weights import tensor_headers, weight_files
from runner.engines.base import rotated_at_run_time
from runner.errors import StageError


@dataclass
class OnlineRotations:
    """Rotations of layers' inputs and outputs."""

    schemes: dict[str, dict[str, Any]]
    """What of ``transform_config`` is left to do, by name."""
    checkpoint: Path
    tensors: list[str]
    """Names of the matrices. Layers share them, so that of most there is one."""

    def attach(self, model: Any) -> None:
        """Have layers rotate what they are given and what they give.

        Raises:
            StageError: The files lack matrices, or hold more than layers use.
        """
        from compressed_tensors.transform import TransformFactory, TransformScheme

        for name, scheme in self.schemes.items():
            factory = TransformFactory.from_scheme(TransformScheme(**scheme), name=name)
            factory.apply_to_model(model, use_tqdm=False)
        unused = self._fill(model)
        if unused:
            raise StageError(
                f"{self.checkpoint} contains {unused[0]}, a rotation that no layer of the model "
                "has: create the checkpoint again"
            )

    def _fill(self, model: Any) -> list[str]:
        """Put the stored matrices in place of those that were made; what is left over."""
        import torch
        from compressed_tensors.transform.factory.base import TransformBase

        stored = self._read()
        uses: dict[int, tuple[Any, list[str]]] = {}
        for path, module in model.named_modules():
            if isinstance(module, TransformBase):
                for leaf, matrix in module.named_parameters(recurse=False):
                    uses.setdefault(id(matrix), (matrix, []))[1].append(f"{path}.{leaf}")
        for matrix, names in uses.values():
            found = [name for name in names if name in stored]
            if not found:
                raise StageError(
                    f"{self.checkpoint} lacks {names[0]}, which rotates a layer's input: create "
                    "the checkpoint again"
                )
            with torch.no_grad():
                matrix.copy_(stored[found[0]])
        used = {name for _, names in uses.values() for name in names}
        return [name for name in self.tensors if name not in used]

    def _read(self) -> dict[str, Any]:
        from safetensors import safe_open

        stored: dict[str, Any] = {}
        for path in weight_files(self.checkpoint):
            with safe_open(path, framework="pt") as tensors:
                wanted = [name for name in self.tensors if name in {*tensors.keys()}]
                stored |= {name: tensors.get_tensor(name) for name in wanted}
        return stored


def online_rotations(checkpoint: Path) -> OnlineRotations | None:
    """What is left to the checkpoint's reader; ``None`` where nothing is."""
    path = checkpoint / "config.json"
    schemes = rotated_at_run_time(read_config(path)) if path.exists() else {}
    if not schemes:
        return None
    ends = tuple(
        f".{name}_{one['location']}.{leaf}"
        for name, scheme in schemes.items()
        for one in scheme["apply"]
        for leaf in ("weight", "perm")
    )
    tensors = [name for name in tensor_headers(checkpoint) if name.endswith(ends)]
    return OnlineRotations(schemes, checkpoint, tensors)
