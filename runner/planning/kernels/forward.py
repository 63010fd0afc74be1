"""The time of a forward pass, from a model's operators on a device."""

from dataclasses import dataclass

from runner.config.schema.hardware import Hardware
from runner.planning.formats import Format, find_format
from runner.planning.kernels.constants import EngineConstants, EngineFamily
from runner.planning.kernels.kernel_set import (
    attention_rates,
    expert_rates,
    matmul_rates,
    reduce_rates,
)
from runner.planning.kernels.launches import Launch, launches, reductions
from runner.planning.kernels.operators import SHARPNESS, Attention, Experts, Product, Reduce
from runner.planning.kernels.rates import MatmulRates
from runner.planning.linears import Linear
from runner.planning.model_shape import Shape

_TILE = 128 * 128
_ROOT = 1 / SHARPNESS
_NUMBER_BYTES = 2
"""Of activations between layers."""


@dataclass(frozen=True)
class Forward:
    """A model on devices that share it: seconds of its passes, by what they are of."""

    products: tuple[Product, ...]
    head: Product
    attention: Attention
    floor_seconds: float
    """Of the launches of all products in a pass."""
    layers: float
    constants: EngineConstants
    experts: Experts | None = None
    reduce: Reduce | None = None

    def body_seconds(self, tokens: float) -> float:
        """Of all layers for so many tokens, without attention over earlier ones.

        Args:
            tokens: All that go through them at once, of all sequences together.
        """
        own = self.constants
        seconds = self.floor_seconds * own.floors + self.layers * own.layer_seconds
        reading, computing = own.reading, own.computing
        # As Product.seconds, without two calls each: plans of thousands of options spend most here.
        for product in self.products:
            read = (product.read_fixed + product.read_per_token * tokens) / reading
            compute = (product.compute_fixed + product.compute_per_token * tokens) / computing
            seconds = seconds + product.count * (read**SHARPNESS + compute**SHARPNESS) ** _ROOT
        if self.experts is not None:
            seconds = seconds + self.experts.seconds(
                tokens,
                own.reading * own.expert_reading,
                own.computing * own.expert_computing,
                own.expert_floors,
            )
        if self.reduce is not None:
            seconds = seconds + own.reducing * self.reduce.seconds(tokens)
        return seconds

    def reduce_seconds(self, tokens: float) -> float:
        """Of a pass's sums over devices; 0 of one device."""
        return self.constants.reducing * self.reduce.seconds(tokens) if self.reduce else 0.0

    def step_seconds(self, batch: float, body: float) -> float:
        """Of one decode step, whose layers take ``body`` without attention over earlier tokens."""
        own, attention = self.constants, self.attention
        return (
            body
            + self.head.seconds(batch, own.reading, own.computing)
            + attention.floor_seconds * own.floors
            + attention.decode_seconds(batch, own.cache_reading)
            + own.step_seconds
            + own.sequence_seconds * batch
        )

    def decode_seconds(self, batch: float) -> float:
        """Of one decode step: a new token of each of a batch's sequences."""
        return self.step_seconds(batch, self.body_seconds(batch))

    def prefill_seconds(self, prompt: float) -> float:
        """From a prompt to its first token, alone on the device."""
        own = self.constants
        return (
            self.body_seconds(prompt)
            + self.head.seconds(1.0, own.reading, own.computing)
            + self.attention.prefill_seconds / own.attending
            + own.prefill_seconds
        )

    def parts(self, batch: float) -> tuple[float, float]:
        """Seconds of a decode step's reading, and of its arithmetic, as if each were alone."""
        products = (*self.products, self.head)
        reading = sum(p.count * (p.read_fixed + p.read_per_token * batch) for p in products)
        computing = sum(p.count * p.compute_per_token * batch for p in products)
        if (experts := self.experts) is not None:
            read = experts.read_expert * experts.touched(batch)
            reading += experts.layers * (read + experts.read_per_token * batch)
            computing += experts.layers * experts.compute_per_token * batch
        return reading + batch * self.attention.read_sequence, computing


@dataclass(frozen=True)
class Setting:
    """How a model is held and computed with."""

    device: Hardware
    family: EngineFamily
    devices: int = 1
    """That share it by tensor parallelism."""
    kv_bits: float = 16.0


def forward(shape: Shape, fmt: Format, setting: Setting, context: int, prompt: int) -> Forward:
    """A model in a format on devices.

    Args:
        shape: The model.
        fmt: How its weights are held.
        setting: Where.
        context: Tokens of a sequence while it is decoded.
        prompt: Tokens of a prompt.
    """
    device, family, devices = setting.device, setting.family, setting.devices
    plain_format = find_format("bf16")
    dense = matmul_rates(device, family.kernels, fmt)
    plain = matmul_rates(device, family.kernels, plain_format)
    products, floors = [], 0.0
    for launch in launches(shape, devices):
        held = [_held(fmt, linear) for linear in launch.linears]
        rates = plain if plain_format in held else dense
        pairs = zip(held, launch.linears, strict=True)
        read = sum(one.bits_of(linear) for one, linear in pairs) / 8
        products.append(_product(launch, rates, read * launch.copies / devices))
        floors += launch.count * rates.floor_seconds
    head = Launch((), 1.0, shape.embedding_weights / shape.vocab, shape.vocab / devices, 1.0)
    head_bytes = shape.embedding_weights * fmt.head_bits / 8 / devices
    return Forward(
        products=tuple(products),
        head=_product(head, plain, head_bytes),
        attention=_attention(shape, setting, context, prompt),
        floor_seconds=floors,
        layers=shape.layers,
        constants=family.on(device.generation),
        experts=_experts(shape, fmt, setting),
        reduce=_reduce(shape, setting),
    )


def _product(launch: Launch, rates: MatmulRates, weight_bytes: float) -> Product:
    """Of all launches together: ``weight_bytes`` are those of one device."""
    inner = 1 + rates.inner_half / launch.inputs
    per_input = 2 * launch.inputs * inner / rates.operations_per_second
    moved = rates.activation_bytes * launch.inputs + _NUMBER_BYTES * launch.outputs
    return Product(
        count=launch.count,
        read_fixed=weight_bytes / launch.count / rates.bytes_per_second,
        read_per_token=moved / rates.bytes_per_second,
        compute_fixed=per_input * rates.tiles_half * _TILE,
        compute_per_token=per_input * launch.outputs,
    )


def _experts(shape: Shape, fmt: Format, setting: Setting) -> Experts | None:
    if not shape.expert_layers:
        return None
    routed = [linear for linear in shape.linears if linear.routed]
    rates = expert_rates(setting.device, setting.family.kernels, _held(fmt, routed[0]))
    each = shape.expert_layers * shape.experts * setting.devices
    expert_bytes = sum(fmt.bits_of(linear) for linear in routed) / 8 / each
    operations = 2 * sum(linear.weights for linear in routed) / each
    width = shape.expert_intermediate / setting.devices
    narrow = (1 + rates.width_half / width) / rates.operations_per_second
    moved = shape.hidden * (rates.activation_bytes + _NUMBER_BYTES) + 3 * _NUMBER_BYTES * width
    return Experts(
        layers=shape.expert_layers,
        experts=shape.experts,
        per_token=shape.experts_per_token,
        distinct_tokens_share=rates.distinct_tokens_share,
        read_expert=expert_bytes / rates.bytes_per_second,
        read_per_token=shape.experts_per_token * moved / rates.bytes_per_second,
        compute_expert=operations * rates.rows_half * narrow,
        compute_per_token=operations * shape.experts_per_token * narrow,
        floor_seconds=rates.floor_seconds,
    )


def _attention(shape: Shape, setting: Setting, context: int, prompt: int) -> Attention:
    latent = bool(shape.architecture.kv_lora_rank)
    rates = attention_rates(setting.device, setting.family.kernels, setting.kv_bits, latent=latent)
    number_bytes, devices = setting.kv_bits / 8, setting.devices
    read = shape.kv_read_bytes(context, number_bytes, devices)
    read += 2 * shape.state_bytes_per_sequence(number_bytes, devices)
    heads = 1 if latent else -(-shape.kv_heads // devices)
    least = shape.attention_layers * heads * rates.seconds_per_head
    computing = 0.0
    if rates.decode_operations_per_second:
        rate = rates.decode_operations_per_second
        computing = shape.attention_flops(context) / devices / rate
    operations = prefill_operations(shape, prompt) / devices
    peak = rates.prefill_operations_per_second
    return Attention(
        floor_seconds=shape.attention_layers * rates.floor_seconds,
        read_sequence=read / rates.bytes_per_second,
        compute_sequence=least + computing,
        prefill_seconds=operations / peak * (1 + rates.sequence_half / prompt),
    )


def _held(fmt: Format, linear: Linear) -> Format:
    """How certain linear layers are stored."""
    return find_format("bf16") if linear.kept else fmt.of(linear)


def prefill_operations(shape: Shape, prompt: int) -> float:
    """Of a whole prompt's attention: each token looks at half of it, on average.

    A latent cache's keys and values are unpacked for it, which are narrower than the vector.
    """
    operations = float(prompt * shape.attention_flops(max(prompt // 2, 1)))
    architecture = shape.architecture
    if architecture.kv_lora_rank and not architecture.output_lora_rank:
        rope, key = architecture.rope_head_dim or 0, architecture.head_dim or 0
        value = architecture.value_head_dim or key
        operations *= (key + rope + value) / (2 * architecture.kv_lora_rank + rope)
    return operations


def _reduce(shape: Shape, setting: Setting) -> Reduce | None:
    rates = reduce_rates(setting.device, setting.family.kernels, setting.devices)
    if rates is None:
        return None
    message = shape.hidden * _NUMBER_BYTES
    return Reduce(
        count=reductions(shape),
        small_latency=rates.small_latency_seconds,
        small_per_token=message / rates.small_bytes_per_second,
        large_latency=rates.large_latency_seconds,
        large_per_token=message / rates.large_bytes_per_second,
    )
