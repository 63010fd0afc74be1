"""Failed and skipped runs, with the reason."""

from typing import Any

from runner.reporting.page.subject import Subject
from runner.store.records import Status

TITLE = "Failed and skipped runs"


def gather(subject: Subject) -> dict[str, Any] | None:
    """Runs that share a status and a reason, together; failures first."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for number, row in enumerate(subject.rows):
        if row.status != Status.ok.value:
            key = (row.status, row.reason or "no reason was recorded")
            groups.setdefault(key, []).append(
                {"id": number, "recipe": row.recipe, "engine": row.engine}
            )
    if not groups:
        return None
    ordered = sorted(groups.items(), key=lambda item: (item[0][0] == "skipped", -len(item[1])))
    return {
        "groups": [
            {"status": status, "reason": reason, "runs": runs} for (status, reason), runs in ordered
        ]
    }
