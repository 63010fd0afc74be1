"""Matrix products of one format, with operands as torch's kernel for it asks for them."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

TYPES = {
    "fp32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "int8": "int8",
    "fp8": "float8_e4m3fn",
    "fp4": "float4_e2m1fn_x2",
}
"""torch's type of each format, in the order in which they are measured."""


@dataclass(frozen=True)
class NarrowFloat:
    """Floats too narrow for plain products: they are scaled."""

    least_capability: tuple[int, int]
    """Compute capability from which GPUs have units for it."""
    numbers_per_byte: int = 1
    numbers_per_scale: int | None = None
    """``None``: a matrix has one."""


NARROW_FLOATS = {
    "fp8": NarrowFloat((8, 9)),
    "fp4": NarrowFloat((10, 0), numbers_per_byte=2, numbers_per_scale=16),  # NVFP4
}
"""torch 2.13 multiplies fp8 on CPUs too, more slowly than fp32 (measured: 0.04 against 0.05 to 0.12
teraflops), since it converts the numbers, so CPUs are not asked for it."""
_SCALES_TILE = (128, 4)  # rows and scales: cuBLAS reads block scales in whole tiles of them

Product = Callable[[], object]
Multiplication = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]


def formats_of(device: "torch.device") -> tuple[str, ...]:
    """Formats to ask a device for; those without a kernel show when they are asked for."""
    import torch

    if device.type != "cuda":
        return tuple(name for name in TYPES if name not in NARROW_FLOATS)
    capability = torch.cuda.get_device_capability(device)
    return tuple(
        name
        for name, dtype in TYPES.items()
        if name not in NARROW_FLOATS
        or (capability >= NARROW_FLOATS[name].least_capability and hasattr(torch, dtype))
    )


def products(name: str, device: "torch.device", pool_bytes: int) -> Callable[[int, int], Product]:
    """Draw numbers of a format, from which products of any size are made.

    Args:
        name: The format, one of ``TYPES``.
        device: Where they lie.
        pool_bytes: Of all weight matrices together, which take turns.

    Returns:
        A function of M and of K = N that returns a call, each time with the next weight matrix.
    """
    import torch

    dtype: torch.dtype = getattr(torch, TYPES[name])
    # Drawn once and repeated, because drawing it all takes seconds. Wide enough for int8 to have
    # varied values, narrow enough for fp16 products not to overflow.
    narrow = NARROW_FLOATS.get(name)
    per_byte = narrow.numbers_per_byte if narrow else 1
    if per_byte > 1:
        block = torch.randint(256, (2**20,), device=device, dtype=torch.uint8)
    else:
        block = (torch.randn(2**20, device=device) * 8).to(dtype)
    if narrow:  # as bytes, since few operations know these types
        block = block.view(torch.uint8)
    pool = block.repeat(pool_bytes // block.nbytes)

    def product(m: int, side: int) -> Product:
        width = side // per_byte
        left = pool[: m * width].view(m, width).view(dtype)
        weights = cycle(pool.view(-1, side, width))
        multiply = _plain(dtype) if narrow is None else _scaled(narrow, device, m, side)
        return lambda: multiply(left, next(weights).view(dtype).t())

    return product


def _plain(dtype: "torch.dtype") -> Multiplication:
    import torch

    return torch._int_mm if dtype == torch.int8 else torch.mm


def _scaled(narrow: NarrowFloat, device: "torch.device", m: int, side: int) -> Multiplication:
    import torch

    if narrow.numbers_per_scale is None:
        one = torch.ones((), device=device)
        # Fast accumulation, which kernels that serve models use too, is the units' own rate.
        return lambda left, right: torch._scaled_mm(
            left, right, scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True
        )
    high, wide = _SCALES_TILE
    columns = -(-side // (narrow.numbers_per_scale * wide)) * wide
    ones = [
        torch.ones(-(-rows // high) * high * columns, device=device).to(torch.float8_e4m3fn)
        for rows in (m, side)
    ]
    return lambda left, right: torch._scaled_mm(
        left, right, scale_a=ones[0], scale_b=ones[1], out_dtype=torch.bfloat16
    )
