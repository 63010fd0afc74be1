"""How many calibration tokens each expert of a mixture saw, and which saw too few."""

from collections.abc import Mapping

_SHOWN = 4


def experts_below(layers: Mapping[str, list[int]], minimum: int) -> list[str]:
    """Experts that saw fewer tokens than a minimum, the most starved first, with their counts.

    Args:
        layers: Tokens of each expert, by the name of the layer's experts.
        minimum: Tokens an expert has to have seen.
    """
    starved = [
        (tokens, place, f"{name}.{expert} ({tokens})")
        for place, (name, counts) in enumerate(layers.items())
        for expert, tokens in enumerate(counts)
        if tokens < minimum
    ]
    return [text for _, _, text in sorted(starved, key=lambda entry: entry[:2])]


def describe_starved(layers: Mapping[str, list[int]], minimum: int) -> str | None:
    """One line on experts that saw fewer tokens than a minimum; ``None`` when all saw enough."""
    starved = experts_below(layers, minimum)
    if not starved:
        return None
    more = f" and {len(starved) - _SHOWN} more" if len(starved) > _SHOWN else ""
    total = sum(map(len, layers.values()))
    return (
        f"{len(starved)} of {total} experts saw fewer than {minimum} calibration tokens: "
        f"{', '.join(starved[:_SHOWN])}{more}"
    )
