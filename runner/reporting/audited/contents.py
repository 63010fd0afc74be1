"""What is really in an audited checkpoint's files, in words."""

from runner.pipeline.stages.audit import AuditResult, Scheme

_NAMED = 4
"""Layers that a sentence names."""


def contents(found: AuditResult) -> list[str]:
    """One line on the whole, one for each way in which matrices are stored, then what is amiss."""
    coverage = found.coverage
    share = coverage.quantized_share
    lines = [
        f"{found.checkpoint_format}, {found.checkpoint_bytes / 1e6:,.1f} MB: "
        f"{found.bits_per_weight:.2f} bits per weight, {found.bits_per_parameter:.2f} over all "
        "parameters"
        + (
            f"; {share:.1%} of the weights of attention, MLP and experts are quantized"
            if share is not None
            else ""
        )
    ]
    lines += map(_scheme, found.schemes)
    if coverage.left_dense_layers and share:
        named = ", ".join(coverage.left_dense[:_NAMED])
        more = coverage.left_dense_layers - _NAMED
        lines.append(f"left out: {named}{f' and {more} more' if more > 0 else ''}")
    stated = found.stated.get("ignore") or found.stated.get("modules_to_not_convert")
    if isinstance(stated, list) and stated:
        named = ", ".join(map(str, stated[:_NAMED]))
        more = len(stated) - _NAMED
        lines.append(f"config.json leaves out: {named}{f' and {more} more' if more > 0 else ''}")
    return [*lines, *found.contradictions]


def _scheme(one: Scheme) -> str:
    name = ", ".join(part for part in (one.numbers or "quantized", one.scales) if part)
    matrices = "1 matrix" if one.layers == 1 else f"{one.layers} matrices"
    return (
        f"{name}: {matrices} of {' and '.join(one.parts)}, {_counted(one.parameters)} "
        f"parameters at {one.bits_per_parameter:.2f} bits"
    )


def _counted(number: int) -> str:
    return f"{number / 1e6:,.1f} M" if number >= 1e6 else f"{number / 1e3:,.1f} K"
