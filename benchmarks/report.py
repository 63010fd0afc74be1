"""The report of a very large sweep: how fast it is written, how large it is, how fast it opens.

By hand: ``python -m benchmarks.report SWEEP_FOLDER`` multiplies that sweep's records to 2,000.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from runner.reporting.page.build import build_page
from runner.reporting.page.subject import Subject
from runner.reporting.pareto import mark_best_tradeoffs
from runner.reporting.rows import rows_of
from runner.store.records import RunRecord
from runner.util.serialise import from_json

_RUNS = 2000
_OPENINGS = 5


def many(folder: Path) -> list[RunRecord]:
    """Real records again and again, each with figures and a label of its own."""
    texts = [path.read_text("utf-8") for path in sorted(folder.glob("*/record.json"))]
    records = []
    for number in range(_RUNS):
        content = json.loads(texts[number % len(texts)])
        turn = number // len(texts)
        content["run"] = f"{number:04d}-{content['label']}"
        content["label"] += f",seed={turn}"
        content["config"]["calibration"]["seed"] = turn
        for stage in content["stages"]:
            if stage["subject"] == "recipe" and stage["stage"] == "eval":
                stage["result"]["perplexity"]["value"] *= 1 + 0.002 * turn
            if stage["subject"] == "recipe" and stage["stage"] == "bench":
                for batch in stage["result"]["batches"]:
                    batch["decode_tokens_per_second"]["mean"] *= 1 + 0.003 * (turn % 17)
        records.append(from_json(RunRecord, content))
    return records


def measure(folder: Path) -> str:
    """One line each for writing and opening."""
    from playwright.sync_api import sync_playwright

    from tests.integration.browser import chromium

    records = many(folder)
    with tempfile.TemporaryDirectory() as kept:
        build_page(Subject("warm", records[:1], rows_of(records[:1])), Path(kept))
        start = time.perf_counter()
        rows = rows_of(records)
        mark_best_tradeoffs(rows)
        html = build_page(Subject("many", records, rows), Path(kept))
        seconds = time.perf_counter() - start
        path = Path(kept) / "report.html"
        path.write_text(html, "utf-8")
        openings, filters = [], []
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
            for _ in range(_OPENINGS):
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                start = time.perf_counter()
                page.goto(path.as_uri())
                page.wait_for_selector("html[data-drawn]")
                openings.append(time.perf_counter() - start)
                start = time.perf_counter()
                page.check("#stars")
                page.wait_for_selector("html[data-drawn='2']")
                filters.append(time.perf_counter() - start)
                page.close()
            browser.close()
        return (
            f"report of {len(records)} runs: written in {seconds:.2f} s, "
            f"{path.stat().st_size / 1e6:.1f} MB, opened and drawn in "
            f"{statistics.median(openings):.2f} s (most {max(openings):.2f} s), filtered in "
            f"{statistics.median(filters):.2f} s"
        )


if __name__ == "__main__":
    print(measure(Path(sys.argv[1])))
