"""What takes long is told, with how far it is; what does not is not."""

import importlib
import io
import threading
from contextlib import redirect_stderr

import pytest

from runner.util.progress import progress

pytestmark = pytest.mark.unit

told = importlib.import_module("runner.util.progress")


class Waiting(io.StringIO):
    """A standard error that tells when something was written."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.written = "", threading.Event()

    def write(self, text: str) -> int:
        self.text += text
        self.written.set()
        return len(text)

    def wait_for(self, wanted: str) -> None:
        while wanted not in self.text:
            self.written.clear()
            assert self.written.wait(60), self.text


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> Waiting:
    stream = Waiting()
    monkeypatch.setattr(told, "_SILENT_SECONDS", 0.001)
    monkeypatch.setattr(told, "_PIPED_SECONDS", 0.001)
    return stream


def test_what_takes_long_is_told_with_how_far_it_is(errors: Waiting) -> None:
    with redirect_stderr(errors), progress("reading records", 5000) as seen:
        seen(1200)
        errors.wait_for("runner: reading records: 1,200 of 5,000")


def test_of_nested_ones_the_innermost_is_told(errors: Waiting) -> None:
    with redirect_stderr(errors), progress("outer", 2):
        errors.wait_for("runner: outer: 0 of 2")
        with progress("inner\x1b[31m"):
            # Control characters are not passed on.
            errors.wait_for("runner: inner?[31m: ")
            assert errors.text.rindex("inner") > errors.text.rindex("outer")


def test_what_is_over_at_once_is_not_told(errors: Waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "_SILENT_SECONDS", 3600.0)
    with redirect_stderr(errors), progress("quick", 3) as seen:
        seen()
    assert errors.text == ""


def test_a_terminals_line_is_redrawn_and_wiped_off(
    errors: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "isatty", lambda: True)
    with redirect_stderr(errors), progress("reading records", 5000):
        errors.wait_for("\r\x1b[Kreading records: 0 of 5,000")
    assert errors.text.endswith("\r\x1b[K")
    with redirect_stderr(errors), told.quiet():
        pass
    assert errors.text.count("\r\x1b[K\r\x1b[K") == 0, "once wiped off there is nothing to wipe"
