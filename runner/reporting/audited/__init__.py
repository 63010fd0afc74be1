"""What an answer says of checkpoints that were audited: their files, and what would be better."""

import textwrap
from collections.abc import Callable, Sequence

from runner.pipeline.stages.audit import STAGE as AUDIT
from runner.reporting.audited.better import TO_TRY, better
from runner.reporting.audited.contents import contents
from runner.reporting.rows import Row
from runner.store.records import RunRecord
from runner.util.shown import escaped


def audited(
    records: Sequence[RunRecord], rows: Sequence[Row], others: Callable[[], list[RunRecord]]
) -> dict[str, list[str]]:
    """Lines on each audited checkpoint, by what the table calls it.

    Args:
        records: Of the answer.
        rows: Theirs.
        others: Gives all records of the store.
    """
    by_run = {(row.sweep, row.run): row for row in rows}
    found = {}
    for record in records:
        row = by_run.get((record.sweep, record.run))
        if row is not None and (told := record.result(AUDIT)) is not None:
            found[record.label] = [*contents(told), *better(record, row, others())]
    return found


def audit_lines(audits: dict[str, list[str]], width: int | None = None) -> list[str]:
    """Below the table: a heading for each checkpoint, then what its files say.

    Args:
        audits: By the checkpoints' names.
        width: Broken between words to fit, but for commands, which are to be copied.
    """
    lines = []
    for name, said in audits.items():
        lines += ["", f"{name}: what its files hold"]
        for line in said:
            if width is None or line.startswith(TO_TRY):
                lines.append(f"  {line}")
            else:
                lines += textwrap.wrap(
                    line, width, initial_indent="  ", subsequent_indent="    ",
                    break_long_words=False, break_on_hyphens=False,
                )  # fmt: skip
    return lines


def audit_markdown(audits: dict[str, list[str]]) -> str:
    """The same for ``answer.md``."""
    parts = []
    for name, said in audits.items():
        parts += [
            f"### {escaped(name)}: what its files hold",
            "",
            *(f"- {escaped(x)}" for x in said),
            "",
        ]
    return "\n".join(["", *parts]) if parts else ""
