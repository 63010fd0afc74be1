"""Prints claims beside the sweep's evidence."""

from runner.config.schema.claims import Claim, Effect, Metric
from runner.reporting.claims.decide import Decision, Evidence


def claim_lines(decisions: list[Decision]) -> list[str]:
    """A heading, then each claim with its verdict and the numbers behind it."""
    if not decisions:
        return []
    lines = [
        "",
        "claims (on this model, text and machine; 95% intervals, paired)",
    ]
    for decision in decisions:
        claim = decision.claim
        lines.append(f"{claim.id}  {decision.verdict}: {claim.sentence}")
        lines += [f"     {comparison_line(claim, found)}" for found in decision.comparisons]
    return lines


def comparison_line(claim: Claim, found: Evidence) -> str:
    """The numbers behind one comparison, and what they say."""
    where = f" ({found.where})" if found.where else ""
    sides = f"{found.left} against {found.right}{where}"
    if found.effect is None:
        return f"{sides}: {found.verdict}"
    sign = "-" if claim.effect is Effect.difference else "/"
    form = "{:+z.3f}" if claim.effect is Effect.difference else "{:.3f}"
    effect = form.format(found.effect.estimate)
    if claim.metric != Metric.bits_per_weight:
        effect += f" [{form.format(found.effect.low)}, {form.format(found.effect.high)}]"
    unit = claim.metric.replace("_", " ") + (f" on {claim.task}" if claim.task else "")
    return (
        f"{sides}: {unit} {found.left_value:.3f} {sign} {found.right_value:.3f} = {effect}; "
        f"claimed {_range(claim)}: {found.verdict}"
    )


def _range(claim: Claim) -> str:
    parts = []
    if claim.at_least is not None:
        parts.append(f"at least {claim.at_least:g}")
    if claim.at_most is not None:
        parts.append(f"at most {claim.at_most:g}")
    return " and ".join(parts) or "anything"
