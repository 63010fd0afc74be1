"""The documentation site: built from the pages, with every link and anchor, and no network."""

import logging
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from mkdocs.exceptions import Abort

from docs import site
from docs.site import PAGES, ROOT, build_site

pytestmark = pytest.mark.unit

STRUCTURE = ("h1", "h2", "h3", "h4", "li", "table", "tr", "pre", "img", "a")


class Tags(HTMLParser):
    """Counts what a page is made of, and notes what it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag in STRUCTURE and attributes.get("class") != "headerlink":
            self.counts[tag] += 1
        source = attributes.get("href") if tag == "link" else attributes.get("src")
        if source:
            self.loads.append(source)


def tags(html: str) -> Tags:
    parser = Tags()
    parser.feed(html)
    return parser


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    build_site(directory)
    return directory


def html_of(page: Path, built: Path) -> str:
    path = page.relative_to(ROOT).with_suffix("")
    folder = path.parent if path.name == "README" else path
    return (built / folder / "index.html").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_has_the_same_structure_on_the_site_as_in_the_repository(
    page: Path, built: Path
) -> None:
    """Python-Markdown differs from CommonMark, by which the repository's pages are shown.

    Both agree on nested lists and paragraphs indented by four spaces, and on a list after an
    empty line.
    """
    html = html_of(page, built)
    main = re.search(r'role="main">(.*)</div>\s*</div>\s*</div>\s*<footer', html, re.DOTALL)
    assert main is not None
    expected = tags(MarkdownIt("commonmark").enable("table").render(page.read_text("utf-8")))
    assert tags(main[1]).counts == expected.counts


def test_nothing_is_loaded_from_elsewhere(built: Path) -> None:
    for page in built.rglob("*.html"):
        for source in tags(page.read_text("utf-8")).loads:
            assert not re.match(r"(https?:)?//", source), f"{page}: {source}"
    for style in built.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", style.read_text("utf-8"))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("[there](nowhere.md)", "nowhere.md' is not found"),
        ("[there](report.md#nowhere)", "does not contain an anchor '#nowhere'"),
    ],
)
def test_a_link_that_leads_nowhere_fails_the_build(
    line: str,
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for page in PAGES:
        copy = tmp_path / "pages" / page.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(page.read_text("utf-8"), "utf-8")
    (tmp_path / "pages/docs/report.png").write_bytes(b"")
    plan = tmp_path / "pages/docs/plan.md"
    plan.write_text(f"{plan.read_text('utf-8')}\n{line}\n", "utf-8")
    monkeypatch.setattr(site, "ROOT", tmp_path / "pages")
    monkeypatch.setattr(site, "PAGES", sorted((tmp_path / "pages").rglob("*.md")))
    with caplog.at_level(logging.WARNING), pytest.raises(Abort):
        build_site(tmp_path / "site")
    assert complaint in caplog.text
