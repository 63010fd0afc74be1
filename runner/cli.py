"""Entry point of ``runner``: help at once, everything else through Hydra."""

import shutil
import sys


def main() -> None:
    """Entry point of ``runner`` and ``python -m runner``."""
    from runner.errors import UsageError, complain
    from runner.surroundings import settle

    arguments = sys.argv[1:]
    try:
        settle()
    except UsageError as error:
        sys.exit(complain(error))
    if arguments and arguments[0] in ("--help", "-h"):
        from runner.help import help_text

        try:
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
            print(help_text(arguments[1] if len(arguments) > 1 else None, width), end="")
        except UsageError as error:
            sys.exit(complain(error))
        return
    if arguments and arguments[0] == "env":
        from runner.environments.command import execute as execute_env

        sys.exit(execute_env(arguments[1:]))
    if arguments and arguments[0] == "store":
        from runner.store.command import execute as execute_store

        sys.exit(execute_store(arguments[1:]))
    if arguments and arguments[0] == "track":
        from runner.tracking.command import execute as execute_track

        sys.exit(execute_track(arguments[1:]))
    from runner.application import execute

    sys.exit(execute())
