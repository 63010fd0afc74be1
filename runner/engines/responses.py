"""Each matrix's product with a random vector: a sketch of a loaded model's weights.

The difference of two such products is, on average over vectors, as large as that of the matrices
(Frobenius norm), so a model's weights need not be kept to be compared with another's.
"""

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@runtime_checkable
class RespondingModel(Protocol):
    """A loaded model whose layers can be reached; not every engine's."""

    def responses(self) -> "dict[str, NDArray[np.float32]]":
        """Products of each matrix with a vector that depends on its number of inputs alone."""


def layer_responses(model: Any) -> "dict[str, NDArray[np.float32]]":
    """Responses of a transformers model, whatever its layers are packed in.

    Fused experts are told one by one, as ``name[expert]``.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    responses: dict[str, NDArray[np.float32]] = {}
    with torch.inference_mode():
        for name, module in model.named_modules():
            if isinstance(module, (torch.nn.Linear, Conv1D)):
                responses[name] = _response(module, isinstance(module, Conv1D), model.dtype)
                continue
            for own, parameter in module.named_parameters(recurse=False):
                if parameter.dim() == 3 and parameter.is_floating_point():
                    vector = _vector(parameter.shape[-1], parameter)
                    products = (parameter.float() @ vector).cpu().numpy()
                    responses |= {f"{name}.{own}[{i}]": row for i, row in enumerate(products)}
    return responses


def _response(module: Any, transposed: bool, dtype: Any) -> "NDArray[np.float32]":
    weight = module.weight
    if weight.is_floating_point() and weight.dim() == 2:
        matrix = weight.float().t() if transposed else weight.float()
        product = matrix @ _vector(matrix.shape[1], weight)
    else:
        # Packed: only the layer itself knows how.
        product = module(_vector(module.in_features, weight).to(dtype)[None])[0]
        if module.bias is not None:
            product = product - module.bias
    response: NDArray[np.float32] = product.float().cpu().numpy()
    return response


def _vector(size: int, like: Any) -> Any:
    import torch

    generator = torch.Generator().manual_seed(size)
    return torch.randn(size, generator=generator).to(like.device)
