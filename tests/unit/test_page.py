"""The page: self-contained, harmless whatever strings runs have, and right about what to take."""

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from runner.methods import method_names
from runner.reporting.claims.decide import decide_claims
from runner.reporting.flatten import flatten
from runner.reporting.markdown import markdown
from runner.reporting.page.build import build_page
from runner.reporting.page.charts import points, tradeoff
from runner.reporting.page.figures import _for_paper, write_figures
from runner.reporting.page.library import chart_script
from runner.reporting.page.marks import marks_of
from runner.reporting.page.runs import runs_content
from runner.reporting.page.sections.sensitivity import place_of
from runner.reporting.page.subject import Subject, groups_of
from runner.reporting.pareto import mark_best_tradeoffs
from runner.reporting.report import report
from runner.reporting.rows import rows_of
from runner.reporting.table import build_table
from runner.reporting.verdict.decide import verdicts
from runner.store.records import RunRecord, Status, write_record
from tests.unit.records import BASE, content_of, recipe, record, stage

pytestmark = pytest.mark.unit

EVIL = "</script><img src=x onerror=alert(1)><b>"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # The chart library is put together in it once.
    return tmp_path_factory.mktemp("store") / "cache"


def subject(*more: RunRecord) -> Subject:
    records = [
        record(0, "none-bf16", BASE),
        recipe(1, "gptq-w4a16-g64", 21.0, 60.0, 90_000_000),
        recipe(2, "rtn-w4a16-g64", 30.0, 80.0, 80_000_000),
        recipe(3, "rtn-w8a16-g64", 20.1, 50.0, 150_000_000),
        *more,
    ]
    rows = rows_of(records)
    mark_best_tradeoffs(rows)
    return Subject("demo", records, rows, verdicts=verdicts(rows, records))


class Page(HTMLParser):
    """Elements and the JSON block of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data: Any = None
        self.text = ""
        self._in_data = False
        self._in_code = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_data = dict(attrs).get("id") == "data"
        self._in_code = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._in_data = self._in_code = False

    def handle_data(self, data: str) -> None:
        if self._in_data:
            self.data = json.loads(data)
            keys = self.data["rows"]["keys"]
            self.data["rows"] = [
                dict(zip(keys, row, strict=True)) for row in self.data["rows"]["rows"]
            ]
        elif not self._in_code:
            self.text += data


def test_strings_of_runs_stay_text(cache: Path) -> None:
    failed = record(
        4, EVIL, [], status=Status.failed, reason=EVIL, log_tail=[EVIL], model=EVIL, engine=EVIL,
        warnings=[EVIL], overrides=[EVIL],
    )  # fmt: skip
    page = Page(build_page(subject(failed), cache))
    assert not [tag for tag, _ in page.tags if tag in ("img", "b", "iframe", "object")]
    assert EVIL in page.text, "the reason is shown as it is"
    run = page.data["runs"]["runs"][-1]
    assert page.data["runs"]["values"][run["reason"]] == EVIL


def test_nothing_is_fetched(cache: Path) -> None:
    page = Page(build_page(subject(), cache))
    for tag, attributes in page.tags:
        for name in ("src", "href"):
            target = attributes.get(name) or "#"
            assert target.startswith(("#", "data:")), (tag, target)
    policy = next(a for t, a in page.tags if t == "meta" and a.get("http-equiv"))["content"]
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_numbers_without_a_json_form_become_null(cache: Path) -> None:
    odd = recipe(4, "odd", 21.0, 60.0, 90_000_000)
    change = content_of(odd, "eval")
    assert change is not None
    change["change"]["delta"] |= {"low": float("-inf"), "high": float("inf")}
    html = build_page(subject(odd), cache)
    page = Page(html)
    assert page.data["rows"][-1]["perplexity_delta_low"] is None
    assert not re.search(r'"low":-?Infinity', html)


def test_sections_appear_with_their_data(cache: Path) -> None:
    def ids(page: Page) -> list[str | None]:
        return [attributes.get("id") for tag, attributes in page.tags if tag == "section"]

    assert ids(Page(build_page(subject(), cache))) == ["answer", "tradeoffs", "table"]
    skipped = record(4, "gptq-nf4-g64", [], status=Status.skipped, reason="cannot make nf4")
    cells = [
        {"unit": f"model.layers.{i}.mlp.down_proj", "rounding": "w4a16-g64", "perplexity": 20.5,
         "kl_divergence": {"estimate": 0.1 * (i + 1), "low": 0.05, "high": 0.2}}
        for i in range(3)
    ]  # fmt: skip
    found = stage("sensitivity", "recipe", {"protocol": "gptq_512", "rows": cells})
    page = Page(build_page(subject(skipped, record(5, "as-is", [found])), cache))
    assert ids(page) == ["answer", "tradeoffs", "table", "sensitivity", "problems"]
    worst = page.data["sections"]["sensitivity"]["maps"][0]["worst"]
    assert [cell["layer"] for cell in worst] == [2, 1, 0]
    assert "cannot make nf4" in page.text


def test_place_of_a_unit() -> None:
    assert place_of("model.layers.12.self_attn.q_proj") == (12, "self_attn.q_proj")
    assert place_of("model.layers.7") == (7, "block")
    assert place_of("lm_head") == (None, "lm_head")


def test_markdown_begins_with_the_verdict_and_escapes() -> None:
    skipped = record(4, "a|b", [], status=Status.skipped, reason="no <b> here")
    about = subject(skipped)
    text = markdown(about.rows, about.records, [], about.verdicts)
    assert text.startswith("## small\n\n**Take gptq-w4a16-g64 on hf: the smallest of 3 ")
    assert "| ★ | rtn-w8a16-g64 | hf | 4.25 | 150.0 | 20.100 | +0.1 [" in text
    assert "- a\\|b on hf skipped: no \\<b> here" in text


def test_what_runs_share_is_written_once() -> None:
    records = [recipe(n, f"r{n}", 21.0, 60.0, 90_000_000) for n in range(200)]
    content = runs_content(records)
    assert len(json.dumps(content)) < 200 * 1100
    run = content["runs"][7]
    config = dict(zip(content["keys"], (content["values"][i] for i in run["config"]), strict=True))
    assert config["group_size.size"] == 64
    assert config["method.name"] == "gptq"


def test_a_method_has_one_colour_and_shape_in_every_report() -> None:
    every = marks_of(method_names())
    assert len({(one["color"], one["shape"]) for one in every.values()}) == len(every)
    assert marks_of(["rtn"])["rtn"] == every["rtn"] == marks_of(["awq", "rtn", "mine"])["rtn"]
    assert marks_of(["mine"]) == marks_of(["mine"]), "a plug-in's by a digest of its name"
    rows = subject().row_dicts()
    for some in (rows, [row for row in rows if row["is_baseline"]]):
        spec = _for_paper(
            tradeoff("size", "x", "y", "z", False), points(some, "perplexity", "method")
        )
        scale = spec["layer"][1]["encoding"]["color"]["scale"]
        colours = dict(zip(scale["domain"], scale["range"], strict=True))
        assert colours["none"] == every["none"]["color"]


def test_a_narrow_terminal_keeps_the_loss_with_its_interval_and_the_kl_divergence() -> None:
    rows = subject().rows
    for row in rows[1:]:
        row.kl_divergence, row.top_1_agreement = 0.1, 0.9
    wide = [str(column.header) for column in build_table(rows, 140).columns]
    assert "same\ntop-1" in wide and "change\n[95% interval]" in wide
    narrow = build_table(rows, 80)
    heads = {str(column.header): [*column.cells] for column in narrow.columns}
    assert "loss, %\n[95%]" in heads and "KL div.\nnats" in heads
    assert not {"same\ntop-1", "bits/\nweight"} & {*heads}
    assert heads["loss, %\n[95%]"][1] == "+5.0 [+4.0, +6.0]"
    assert any("tok/s" in head for head in heads)


def front(spec: dict[str, Any]) -> list[dict[str, Any]]:
    transform: list[dict[str, Any]] = spec["layer"][0]["transform"]
    return transform


def test_the_charts_front_is_the_front(tmp_path: Path) -> None:
    import vl_convert

    values = points(subject().row_dicts(), "perplexity", "method")
    assert values[0] | {"group": ""} == {
        "id": 0, "recipe": "unquantized", "name": "unquantized", "engine": "hf",
        "model": "small", "quality": 20.0, "low": None, "high": None, "size": 270.0,
        "speed": 40.0, "group": "", "baseline": True,
        "star": True, "change": "-", "text": "wikipedia", "protocol": "gptq_512",
        "arithmetic": "not told",
    }  # fmt: skip
    worse = values[1] | {"quality": 22.0, "size": 95.0, "recipe": "dominated"}
    elsewhere = worse | {"recipe": "on another text", "text": "bible"}
    spec = tradeoff("size", "MB", "perplexity", "Method", more_is_better=False)
    chart = {
        "data": {"values": [*values, worse, elsewhere]},
        "transform": front(spec),
        "mark": "text",
        "encoding": {"text": {"field": "recipe"}},
    }
    svg = vl_convert.vegalite_to_svg(chart)
    shown = {v["recipe"] for v in [*values, worse, elsewhere] if v["recipe"] in svg}
    best = {"unquantized", "gptq-w4a16-g64", "rtn-w4a16-g64", "rtn-w8a16-g64"}
    assert shown == best | {"on another text"}


def test_figures_are_written(tmp_path: Path) -> None:
    paths = write_figures(subject().row_dicts(), tmp_path)
    assert {path.name for path in paths} == {
        f"{name}.{kind}"
        for name in ("quality_vs_size", "quality_vs_speed", "speed_vs_batch", "quality_change")
        for kind in ("svg", "png")
    }
    assert "gptq" in (tmp_path / "quality_vs_size.svg").read_text()
    change = (tmp_path / "quality_change.svg").read_text()
    assert "gptq-w4a16-g64" in change and "rtn-w8a16-g64" in change
    assert "undefined" not in change
    assert (tmp_path / "speed_vs_batch.png").read_bytes().startswith(b"\x89PNG")


def test_axes_of_figures_are_logarithmic_where_values_span_more_than_tenfold() -> None:
    spec = tradeoff("size", "MB", "perplexity", "Method", more_is_better=False)
    values = points(subject().row_dicts(), "perplexity", "method")
    for worst, kind in ((199.0, "linear"), (201.0, "log")):
        values[2]["quality"] = worst  # the best has 20
        scale = _for_paper(spec, values)["encoding"]["y"]["scale"]
        assert scale["type"] == kind
    assert scale["nice"] is False and "log" not in json.dumps(spec["encoding"])


def test_the_chart_library_is_there_without_a_place_to_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vl_convert

    # Putting the real one together takes a second.
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda code: f"'</script>'; {code}")
    (tmp_path / "file").write_text("")
    script = "'<\\/script>'; window.vegaEmbed = vegaEmbed;"
    assert chart_script(tmp_path / "file") == script
    assert chart_script(tmp_path / "cache") == script
    (kept,) = (tmp_path / "cache" / "report").iterdir()
    assert kept.read_text() == script
    kept.write_text("kept")
    assert chart_script(tmp_path / "cache") == "kept"


def test_a_record_without_some_groups_has_unknown_ones() -> None:
    old = record(1, "old", [], config={"method": {"name": "rtn"}, "bits": {"weight": 4}})
    assert groups_of(old, is_baseline=False) == {
        "method": "rtn", "backend": "?", "bits": "?", "group_size": "?", "calibration": "none",
        "text": "None", "hardware": "Test CPU",
    }  # fmt: skip


@pytest.mark.parametrize(("width", "there", "gone"), [(80, "engine", "peak"), (140, "peak", "…")])
def test_the_table_fits_its_terminal(width: int, there: str, gone: str) -> None:
    import io

    from rich.console import Console

    other = recipe(4, "smoothquant-w8a8-per_channel", 21.0, 60.0, 90_000_000, engine="llama_cpp")
    skipped = record(5, "x" * 90, [], status=Status.skipped, reason="too long a name")
    stream = io.StringIO()
    console = Console(file=stream, width=width)
    console.print(build_table(subject(other, skipped).rows, width))
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "smoothquant-w8a8-per_channel" in text
    assert there in text
    assert gone not in text
    assert "…" not in text


def test_the_report_writes_every_form(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = cache.with_name("runs")
    for entry in subject().records:
        write_record(runs, entry)
    report(runs, "demo", tmp_path / "copies", page=True, figures=True)
    for folder in (runs / "demo", tmp_path / "copies"):
        for name in ("answer.json", "answer.csv", "answer.md", "report.html", "figures"):
            assert (folder / name).exists(), name
    assert str(tmp_path / "copies" / "report.html") in capsys.readouterr().out


def answered(value: float, change: dict[str, Any] | None) -> dict[str, Any]:
    score = {"metric": "acc", "filter": "none", "value": value, "standard_error": 0.05,
             "higher_is_better": True, "change": change}  # fmt: skip
    return {"tasks": [{"task": "facts", "scores": [score]}], "overall": None}


def claimed() -> Subject:
    """The usual runs with two claims, and tasks that one of them answered."""
    change = {"delta": -0.2, "recovery_percent": 75.0, "mcnemar": {"p_value": 0.039}}
    stages = [stage("tasks", "baseline", answered(0.8, None)),
              stage("tasks", "recipe", answered(0.6, change))]  # fmt: skip
    about = subject()
    about.records[1].stages.extend(stages)
    claims = [
        {"id": id_, "sentence": sentence, "metric": "bits_per_weight",
         "left": "label=rtn-w8a16-g64", "right": "label=gptq-w4a16-g64",
         "effect": "difference", "at_least": least, "at_most": None}
        for id_, sentence, least in (("C1", "both are <b>as wide</b>", 0.0), ("C2", "wider", 1.0))
    ]  # fmt: skip
    for one in about.records:
        one.config = {**one.config, "claims": claims}
    return about


def test_claims_and_tasks_are_on_the_page(cache: Path) -> None:
    html = build_page(claimed(), cache)
    page = Page(html)
    sections = [attributes.get("id") for tag, attributes in page.tags if tag == "section"]
    assert sections.index("claims") == sections.index("answer") + 1
    for part in ("C1: both are <b>as wide</b>", "holds here", "C2: wider", "does not hold here",
                 "75.0% kept, p = 0.039", "0.800"):  # fmt: skip
        assert part in page.text, part
    assert "b" not in {tag for tag, _ in page.tags}


def test_claims_and_tasks_are_in_the_markdown() -> None:
    about = claimed()
    text = markdown(about.rows, about.records, decide_claims(about.records))
    assert "| unquantized | hf | 0.800 ± 0.050 |" in text
    assert "| gptq-w4a16-g64 | hf | 0.600 ± 0.050 (75.0%) |" in text
    assert "- **does not hold here**: C2, wider" in text
    assert r"\<b>as wide" in text


def test_a_large_sweep_is_packed_and_its_runs_open_one_part_at_a_time(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.reporting.page.data._MOST_PLAIN", 10_000)
    more = [
        recipe(number, f"rtn-w4a16-g{number}", 20 + number / 100, 60.0, 80_000_000 + number)
        for number in range(10, 260)
    ]
    shown = subject(*more)
    html = build_page(shown, cache)
    (text,) = re.findall(r'id="data" data-encoding="gzip">([A-Za-z0-9+/=]+)</script>', html)
    data = json.loads(gzip.decompress(base64.b64decode(text)))
    keys = data["rows"]["keys"]
    rows = [dict(zip(keys, row, strict=True)) for row in data["rows"]["rows"]]
    assert [row["recipe"] for row in rows] == [row.recipe for row in shown.rows]
    runs = data["runs"]
    opened = json.loads(gzip.decompress(base64.b64decode(runs["parts"][runs["at"][more[200].run]])))
    (run,) = (one for one in opened["runs"] if one["run"] == more[200].run)
    told = dict(zip(opened["keys"], run["config"], strict=True))
    whole = {key: opened["values"][number] for key, number in told.items()}
    assert {k: v for k, v in whole.items() if v is not None} == flatten(more[200].config)
