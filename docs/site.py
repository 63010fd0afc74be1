"""Builds the documentation site: ``python -m docs.site [DIRECTORY]``, by default build/site.

The pages are the Markdown files of the repository, laid out as they are there, so that a link
works alike in the repository and on the site. The site needs no network: no fonts, styles or
scripts come from elsewhere.
"""

import logging
import re
import shutil
import sys
import tempfile
from pathlib import Path

from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
        *(ROOT / "docs").rglob("*.md"),
    ]
)


def github_slug(heading: str, separator: str) -> str:
    """The anchor that GitHub gives a heading; Python-Markdown's own differs in punctuation."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", separator)


def linked_files(page: Path) -> set[Path]:
    """Files other than pages that a page links to: pictures, sweeps, source files."""
    targets = re.findall(r"\]\(([^)#:]+)[^):]*\)", page.read_text("utf-8"))
    files = {(page.parent / target).resolve() for target in targets}
    return {file for file in files if file.is_file() and file.suffix != ".md"}


def build_site(directory: Path) -> None:
    """Build the site into ``directory``.

    Raises:
        mkdocs.exceptions.Abort: A link leads nowhere, or the navigation lacks a page.
    """
    with tempfile.TemporaryDirectory() as name:
        sources = Path(name).resolve()
        for file in {*PAGES, *(file for page in PAGES for file in linked_files(page))}:
            copy = sources / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        config = load_config(
            str(Path(__file__).with_name("mkdocs.yml")),
            docs_dir=str(sources),
            site_dir=str(directory.resolve()),
        )
        # Written by `make gpu-check`, one for each device that it ran on.
        if devices := sorted(page.name for page in (ROOT / "docs" / "gpu").glob("*.md")):
            config.nav.append({"Checked GPUs": [f"docs/gpu/{name}" for name in devices]})
        config.plugins.on_startup(command="build", dirty=False)
        build(config)


if __name__ == "__main__":
    logging.basicConfig(format="docs.site: %(message)s", level=logging.WARNING)
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "site"
    try:
        build_site(target)
    except Abort as error:
        sys.exit(f"docs.site: {error}")
    print(f"{target / 'index.html'}")
