"""Claims that the sweep states, and whether they hold here."""

from typing import Any

from runner.reporting.claims.decide import DOES_NOT_HOLD, HOLDS, decide_claims
from runner.reporting.claims.show import comparison_line
from runner.reporting.page.subject import Subject

TITLE = "Claims"


def gather(subject: Subject) -> dict[str, Any] | None:
    """Each claim with its verdict and the comparisons behind it."""
    decisions = decide_claims(subject.records)
    if not decisions:
        return None
    return {
        "claims": [
            {
                "id": decision.claim.id,
                "sentence": decision.claim.sentence,
                "verdict": decision.verdict,
                "kind": _kind(decision.verdict),
                "comparisons": [comparison_line(decision.claim, c) for c in decision.comparisons],
            }
            for decision in decisions
        ]
    }


def _kind(verdict: str) -> str:
    if verdict.startswith(DOES_NOT_HOLD):
        return "failed"
    return "ok" if verdict.startswith(HOLDS) else "skipped"
