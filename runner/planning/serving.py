"""Which engine serves a format on a device."""

import functools
from dataclasses import dataclass, replace

from runner.config.schema.hardware import Hardware
from runner.engines import all_engines, traits_of
from runner.engines.planned import Place, Reads, ServingEngine, Weights
from runner.planning.formats import EXPERTS, Format
from runner.planning.model_shape import Shape

_WIDE = "bf16"


@dataclass(frozen=True)
class Serving:
    """The engine that would serve a recipe on a device, and how sure that is."""

    engine: str | None
    """``None``: none reads it there."""
    known: bool = True
    said: str = ""
    """Why none does, or what is not known, or what the engine makes of it."""
    many_at_once: bool = True
    """Whether it computes the requests of several users at once."""
    computes_together: bool = True
    """Whether devices that share a model compute at once, and do not take turns."""
    widens: bool = False
    """Whether it multiplies in 16 bits, although activations are to be in fewer."""

    @property
    def is_sure(self) -> bool:
        """Whether an engine is known to read it there."""
        return self.engine is not None and self.known

    def held(self, fmt: Format) -> Format:
        """A format as its kernels compute with it."""
        return replace(fmt, arithmetic=_WIDE) if self.widens else fmt


def serving(fmt: Format, device: Hardware, shape: Shape) -> Serving:
    """The engine that serves a format on a device best.

    Of those that read it, one that computes the requests of several users at once comes first.
    """
    formats = [fmt, *([fmt.rest] if fmt.rest else [])]
    weights = (weights_of(one, bool(shape.experts)) for one in formats)
    each = (
        replace(found, scheme=scheme)
        for one, found in zip(formats, weights, strict=True)
        for scheme in one.schemes or (found.scheme,)
    )
    return _serving(tuple(dict.fromkeys(each)), _place(device))


def weights_of(fmt: Format, mixture: bool) -> Weights:
    """A format in the engines' words.

    Args:
        fmt: As plans know it.
        mixture: Whether the model has routed experts.
    """
    group = f"b{fmt.block}" if fmt.block else f"g{fmt.group}" if fmt.group else "per_channel"
    return Weights(
        fmt.stored_as or fmt.scheme or fmt.label,
        group,
        zero_points=fmt.zero_bits > 0,
        experts=mixture,
        only_experts=fmt.covers == (EXPERTS,),
    )


def _place(device: Hardware) -> Place:
    return Place(device.kind, device.compute_capability)


@functools.lru_cache(maxsize=4096)
def _serving(weights: tuple[Weights, ...], place: Place) -> Serving:
    answers = _answers(weights, place)
    for verdict in (True, None):
        for name, answer in answers:
            if answer.yes is verdict:
                traits = traits_of(name)
                return Serving(
                    name,
                    verdict is True,
                    answer.said,
                    traits.serves_together,
                    traits.computes_together,
                    answer.widens,
                )
    return Serving(None, said="; ".join(answer.said for _, answer in answers))


def _answers(weights: tuple[Weights, ...], place: Place) -> list[tuple[str, Reads]]:
    """Of all engines that serve, those that serve many users first."""
    engines = [
        (not engine.traits.serves_together, name, engine)
        for name, engine in all_engines().items()
        if isinstance(engine, ServingEngine)
    ]
    ordered = sorted(engines, key=lambda one: one[:2])
    return [(name, _all_of(engine, weights, place)) for _, name, engine in ordered]


def _all_of(engine: ServingEngine, weights: tuple[Weights, ...], place: Place) -> Reads:
    """The worst answer for the parts of a model."""
    answers = [engine.reads(one, place) for one in weights]
    for verdict in (False, None):
        if (worst := next((a for a in answers if a.yes is verdict), None)) is not None:
            return worst
    return next((answer for answer in answers if answer.said or answer.widens), answers[0])
