"""The report as a person uses it: opened from disk in a browser, sorted, filtered, hovered over."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from runner.config.compose import quoted
from runner.reporting.page.build import build_page
from runner.reporting.page.subject import Subject
from runner.reporting.pareto import mark_best_tradeoffs
from runner.reporting.rows import rows_of
from runner.reporting.verdict.decide import verdicts
from runner.store.records import Status
from tests.integration.browser import open_browser
from tests.integration.conftest import TINY, Called
from tests.unit.records import BASE, comparison, recipe, record, stage
from tests.unit.test_page import answered

pytestmark = pytest.mark.integration

EVIL = "</script><img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from open_browser()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with every section, and a run that means harm."""
    cells = [
        {"unit": f"model.layers.{i}.mlp.down_proj", "rounding": "w4a16-g64", "perplexity": 20.5,
         "kl_divergence": {"estimate": 0.1 * (i + 1), "low": 0.05, "high": 0.2}}
        for i in range(4)
    ]  # fmt: skip
    found = stage("sensitivity", "recipe", {"protocol": "gptq_512", "rows": cells})
    records = [
        record(0, "none-bf16", BASE),
        recipe(1, "gptq-w4a16-g64", 21.0, 60.0, 90_000_000),
        recipe(2, "rtn-w4a16-g64", 30.0, 80.0, 80_000_000),
        recipe(3, "rtn-w8a16-g64", 20.1, 50.0, 150_000_000, engine="vllm", warnings=["careful"]),
        record(4, EVIL, [], status=Status.failed, reason=EVIL, log_tail=["last words"]),
        record(5, "as-is", [found]),
    ]
    records[1].stages.append(stage("tasks", "recipe", answered(0.6, {"recovery_percent": 75.0})))
    claim = {"id": "C1", "sentence": "as wide", "metric": "bits_per_weight",
             "left": "label=gptq-w4a16-g64", "right": "label=rtn-w4a16-g64", "at_least": 0.0,
             "effect": "difference", "at_most": None}  # fmt: skip
    for one in records:
        one.config = {**one.config, "claims": [claim]}
    rows = rows_of(records)
    mark_best_tradeoffs(rows)
    folder = tmp_path_factory.mktemp("page")
    path = folder / "report.html"
    path.write_text(
        build_page(
            Subject("demo", records, rows, [comparison()], verdicts(rows, records)),
            folder / "cache",
        ),
        "utf-8",
    )
    return path


@pytest.fixture
def page(browser: Browser, file: Path) -> Iterator[Page]:
    """The page, drawn; whatever the console says, or any request, fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-drawn]")
    yield page
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    context.close()


def recipes(page: Page) -> list[str]:
    cells = page.locator("#runs tbody tr td:first-child").all_inner_texts()
    return [cell.replace("★", "").strip() for cell in cells]


def test_the_report_sorts_its_table(page: Page) -> None:
    page.click("#runs th[data-key=perplexity] button")
    measured = recipes(page)[1:5]
    assert measured == ["unquantized", "rtn-w8a16-g64", "gptq-w4a16-g64", "rtn-w4a16-g64"]
    page.click("#runs th[data-key=perplexity] button")
    assert recipes(page)[0] == "rtn-w4a16-g64"
    assert recipes(page)[-1] in ("as-is", f"{EVIL}failed"), "what has no value comes last"
    # Of a speed the first click shows the fastest.
    page.click("#runs th[data-key=decode_tokens_per_second] button")
    assert recipes(page)[0] == "rtn-w4a16-g64"


def test_the_report_filters_table_and_charts(page: Page) -> None:
    page.click("#filters details[data-group=engine] summary")
    page.check("#filters input[value=vllm]")
    expect(page.locator("#shown")).to_have_text("2 of 7")
    assert recipes(page) == ["unquantized", "rtn-w8a16-g64"]
    page.wait_for_selector("html[data-drawn='2']")
    drawn = "report.charts.views.map(view => view.result.view.data('points').length)"
    assert max(page.evaluate(drawn)) <= 4, "two rows, at two batch sizes"
    page.click("#reset")
    page.fill("#filters input[type=search]", "gptq")
    assert recipes(page) == ["gptq-w4a16-g64"]
    page.click("#reset")
    page.check("#stars")
    assert "gptq-w4a16-g64" in recipes(page)
    assert EVIL not in " ".join(recipes(page))


POINT = """([chart, recipe]) => {
  const {result} = report.charts.views.find(view => view.name === chart);
  const inside = (item, x, y) => {
    const own = item.mark ? [x + (item.x || 0), y + (item.y || 0)] : [x, y];
    if (item.shape && item.datum && item.datum.recipe === recipe) return own;
    if (item.mark && item.mark.marktype !== "group") return null;
    return (item.items || []).map(child => inside(child, ...own)).find(Boolean);
  };
  const [x, y] = inside(result.view.scenegraph().root, 0, 0);
  const [left, top] = result.view.origin(), margin = result.view.padding();
  const box = document.querySelector(`#chart-${chart} canvas`).getBoundingClientRect();
  return {x: box.left + margin.left + left + x, y: box.top + margin.top + top + y};
}"""


def point(page: Page, chart: str, recipe: str) -> dict[str, Any]:
    """Where a run's point lies on the screen."""
    page.locator(f"#chart-{chart}").scroll_into_view_if_needed()
    found: dict[str, Any] = page.evaluate(POINT, [chart, recipe])
    return found


@pytest.mark.parametrize("chart", ["size", "speed"])
def test_a_point_of_a_chart_tells_its_run_and_opens_it(page: Page, chart: str) -> None:
    at = point(page, chart, "gptq-w4a16-g64")
    page.mouse.move(at["x"], at["y"])
    tooltip = page.locator("#vg-tooltip-element.visible")
    expect(tooltip).to_contain_text("gptq-w4a16-g64")
    expect(tooltip).to_contain_text("90.0")
    page.mouse.click(at["x"], at["y"])
    dialog = page.locator("dialog[open]")
    for part in ("gptq-w4a16-g64", "runner method=gptq", "group_size.size", "Test CPU", "2.13.0"):
        expect(dialog).to_contain_text(part)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_the_report_tells_claims_and_tasks(page: Page) -> None:
    expect(page.locator("#claims .chip")).to_have_text("holds here")
    page.click("#claims details summary")
    expect(page.locator("#claims")).to_contain_text("bits per weight 4.250 - 4.250")
    expect(page.locator("#tasks tbody tr")).to_have_count(1)
    page.click("#tasks tbody tr")
    expect(page.locator("dialog[open]")).to_contain_text("gptq-w4a16-g64")


def test_the_report_says_why_a_run_failed_and_runs_no_script_of_it(page: Page) -> None:
    problems = page.locator("#problems")
    expect(problems).to_contain_text(EVIL)
    problems.locator("button").first.click()
    expect(page.locator("dialog[open]")).to_contain_text("last words")
    assert page.title() != "owned"
    assert page.locator("img").count() == 0


def test_the_report_draws_every_chart_in_its_section(page: Page) -> None:
    expect(page.locator("#tradeoffs canvas")).to_have_count(4)
    expect(page.locator("#sensitivity canvas")).to_have_count(1)
    expect(page.locator("#prediction canvas")).to_have_count(1)
    expect(page.locator("#prediction")).to_contain_text("4% calibrated on other models")
    assert page.evaluate("new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size") == (
        page.locator("[id]").count()
    )


def test_the_page_begins_with_the_verdict_which_opens_its_run(page: Page) -> None:
    verdict = page.locator("#answer .verdict")
    expect(verdict.locator(".headline")).to_contain_text("Take gptq-w4a16-g64 on hf: the smallest")
    expect(verdict).to_contain_text("Ruled out: rtn-w4a16-g64")
    assert page.evaluate("document.querySelector('main section').id") == "answer"
    verdict.get_by_role("button", name="Open its run").click()
    expect(page.locator("dialog[open]")).to_contain_text("gptq-w4a16-g64")
    page.keyboard.press("Escape")


def test_a_run_has_an_address_in_the_report(browser: Browser, file: Path) -> None:
    page = browser.new_page()
    page.goto(f"{file.as_uri()}#run=003-rtn-w8a16-g64")
    expect(page.locator("dialog[open]")).to_contain_text("careful")
    page.close()


def test_the_report_turns_dark(page: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.click("#theme")
    assert page.evaluate(ground) != light
    page.wait_for_selector("html[data-drawn='2']")


@pytest.mark.parametrize("width", [360, 820])
def test_the_report_fits_a_small_screen(browser: Browser, file: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-drawn]")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_a_real_sweep_leaves_its_report(
    command: Callable[..., Called], browser: Browser, tmp_path: Path
) -> None:
    done = command(
        "-m", *TINY, "method=gptq", "bits=w4a16,nf4", "stages=[quantize,eval]", "tracker=none",
        "calibration.samples=4", "calibration.sequence_length=64", "calibration.seed=0,1",
        f"hydra.sweep.dir={quoted(tmp_path / 'out')}", "sweep=reported",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = "gptq-w4a16-g32: 2 calibration seeds; intervals cover both the seeds and"
    assert said in done.stdout
    page = browser.new_page()
    page.goto((tmp_path / "out" / "report.html").as_uri())
    page.wait_for_selector("html[data-drawn]")
    expect(page.locator("#problems")).to_contain_text("2 skipped")
    expect(page.locator("#table .notes")).to_contain_text(said)
    assert recipes(page).count("gptq-w4a16-g32") == 1, "one recipe, one row"
    (row,) = (r for r in page.evaluate("report.data.rows") if r["recipe"] == "gptq-w4a16-g32")
    assert row["seeds"] == 2
    assert row["perplexity_ratio_low"] < row["perplexity_ratio"] < row["perplexity_ratio_high"]
    # Its single runs are a click away, and have addresses of their own.
    page.click(f"#runs tbody tr[data-id='{row['id']}']")
    second = row["runs"].split()[1]
    page.click(f"dialog .runs button >> text={second}")
    expect(page.locator("dialog[open]")).to_contain_text("calibration.seed=1")
    assert second in page.url
    page.close()
    done = command("stages=[compare]", "compare.a=reported/000", "compare.b=reported/000")
    assert "b against a:" in done.stdout, done.stderr
    assert "equal" in done.stdout
