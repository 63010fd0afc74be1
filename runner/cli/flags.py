"""Hydra's own flags on a command line, and how they are handled."""

import argparse
import contextlib
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator
from typing import NoReturn

from runner.cli.quickstart import QUICKSTART, asks_for_quickstart
from runner.cli.subcommands import read_subcommand
from runner.config.options import option_files
from runner.config.output_folder import note
from runner.config.words import read_words
from runner.errors import UsageError
from runner.util.paths import is_folder
from runner.util.redact import redact, redact_yaml


def read_flags() -> argparse.Namespace:
    """The command line's flags; they are put in front of its overrides, which are made Hydra's.

    Raises:
        UsageError: It has a flag that Hydra does not know, two that exclude each other, or a word
            that can be read in two ways.
    """
    from runner.config.hydra_internals import get_args_parser

    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UsageError(f"{message}; see runner --help")

    parser.error = refuse  # type: ignore[method-assign]
    # Neither this parser nor Hydra's own takes flags between overrides.
    takers = {o for a in parser._actions if a.nargs in (None, "?") for o in a.option_strings}
    given = sys.argv[1:]
    pairs = [
        (one, one.startswith("-") or before in takers)
        for before, one in zip(["", *given], given, strict=False)
    ]
    flags = [one for one, is_flag in pairs if is_flag]
    words = read_subcommand([one for one, is_flag in pairs if not is_flag])
    flags_read = parser.parse_args([*flags, *words])
    _require_one(flags_read)
    _require_sense(flags_read, words)
    if asks_for_quickstart(flags_read, words):
        flags += ["--config-name", QUICKSTART]
    if not flags_read.shell_completion:
        sweep = flags_read.multirun or "hydra.mode=MULTIRUN" in words
        words = read_words(words, sweep=sweep)
    note("outputs")
    note("multirun")
    for word in words:
        if word.startswith(("hydra.run.dir=", "hydra.sweep.dir=")):
            note(word.partition("=")[2].strip("'\""))
    sys.argv[1:] = [*flags, *words]
    return parser.parse_args()


def _require_one(asked: argparse.Namespace) -> None:
    """See that one thing is asked for, with what belongs to it."""
    flags = [
        f"--{name.replace('_', '-')}"
        for name in ("run", "multirun", "cfg", "info", "shell_completion", "hydra_help")
        if getattr(asked, name) not in (None, False)
    ]
    if len(flags) > 1:
        raise UsageError(f"{' and '.join(flags)}: use one of them at a time")


def _require_sense(asked: argparse.Namespace, words: list[str]) -> None:
    """See that flags have what belongs to them."""
    if asked.cfg is None and (asked.resolve or asked.package is not None):
        lone = "--resolve" if asked.resolve else "--package"
        raise UsageError(f"{lone} belongs to --cfg: runner --cfg job {lone} …")
    if asked.config_path is not None:
        raise UsageError(
            "--config-path would hide the built-in configuration; use --config-dir to add yours"
        )
    if asked.package is not None and not re.fullmatch(r"\w[\w.\-\[\]]*", asked.package):
        raise UsageError(f"--package {asked.package!r} is not a package name such as eval.text")
    if asked.config_dir is not None and not (asked.config_dir and is_folder(asked.config_dir)):
        raise UsageError(f"--config-dir {asked.config_dir} is not a directory")
    group, _, option = (asked.config_name or "").removesuffix(".yaml").rpartition("/")
    if group and option in option_files(group):
        raise UsageError(f"-cn {asked.config_name} is an option: {group}={option}")
    wanted = re.fullmatch(r"(un)?install=(bash|fish|zsh)|query=(bash|fish|zsh)", " ".join(words))
    asks = wanted is not None and (wanted[3] is None or "COMP_LINE" in os.environ)
    if asked.shell_completion and not asks:
        raise UsageError("-sc takes install=SHELL or uninstall=SHELL, for bash, fish or zsh")
    if asked.experimental_rerun is not None:
        raise UsageError("--experimental-rerun is not supported; repeat the command")


@contextlib.contextmanager
def shown_configuration() -> Iterator[None]:
    """Print what the block prints without credentials, once it is over.

    Raises:
        UsageError: Hydra says that there is nothing to show.
    """
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield
    except SystemExit:
        match = re.fullmatch(r"package '(.*)' not found in config\n", err.getvalue())
        if match is None:
            raise
        raise UsageError(f"--package {match[1]}: the configuration has no such section") from None
    finally:
        print(redact_yaml(out.getvalue()), end="")
        if "not found in config" not in err.getvalue():
            print(redact(err.getvalue()), end="", file=sys.stderr)


@contextlib.contextmanager
def told_warnings() -> Iterator[None]:
    """Within the block a warning takes one line, and a folder that is not there is an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", r"provider=.* is not available")
        warnings.showwarning = _tell_warning  # type: ignore[assignment]
        yield


def _tell_warning(message: Warning | str, *where: object) -> None:
    text = " ".join(word for word in str(message).split() if not word.startswith("http"))
    print(f"  warning: {text}", file=sys.stderr)
