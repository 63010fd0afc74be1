"""``runner --help`` is made from what ships."""

import pytest

from runner.cli.help import help_text
from runner.errors import UsageError
from runner.util.paths import conf_dir, sweeps_dir

pytestmark = pytest.mark.unit

GROUPS = sorted(
    folder.name for folder in conf_dir().iterdir() if folder.is_dir() and folder.name != "hydra"
)
"""Folder ``hydra`` holds launchers, which are chosen once a sweep: see docs/clusters.md."""


def test_every_group_option_and_sweep_is_listed() -> None:
    text = help_text()
    words = set(text.replace(",", " ").split())
    assert set(GROUPS) <= words
    assert {path.stem for path in conf_dir().glob("*/*.yaml")} <= words
    assert {path.stem for path in sweeps_dir().glob("*.yaml")} <= words


def test_it_fits_a_terminal() -> None:
    assert max(map(len, help_text().splitlines())) <= 80
    assert max(map(len, help_text("method", 80).splitlines())) <= 80


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_is_described(group: str) -> None:
    first, *lines, last = help_text(group).splitlines()
    place = last.split()[-1]
    assert first in (f"{group}=…", f"{group}@{place}=…")
    folder = conf_dir() / group
    options = sorted(path.stem for path in folder.glob("*.yaml"))
    options += sorted(f"{path.parent.name}/{path.stem}" for path in folder.glob("*/*.yaml"))
    assert [line.split()[0] for line in lines] == options
    for line in lines:
        assert len(line.split()) >= 3, f"{line!r} describes nothing"


def test_an_unknown_group_is_answered_with_the_groups_there_are() -> None:
    with pytest.raises(UsageError, match=r"no config group nonsense \(groups: .*group_size"):
        help_text("nonsense")
