"""Process that loads a checkpoint in its engine's environment and answers about token ids.

Run as ``python -m runner.engines.server.tokens PATCH,…``. Standard input has a line of JSON for the
checkpoint, then one for each question; standard output has a line for each answer. It ends when
its input does. ``runner.engines.server.client`` is the other side.
"""

import importlib
import json
import os
import sys
from typing import IO, Any

from runner.engines.loading import LoadRequest, load
from runner.engines.tokens import Asked, TokenModel
from runner.errors import RunnerError
from runner.util.processes import die_with_parent
from runner.util.serialise import from_json, to_json


def main() -> None:
    """Load, then answer until nobody asks any more."""
    die_with_parent()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What libraries print must not disturb the answers.
    os.dup2(2, 1)
    for name in filter(None, sys.argv[1].split(",")):
        importlib.import_module(f"runner.environments.patches.{name}").apply()
    first = json.loads(sys.stdin.readline())
    try:
        model: Any = load(from_json(LoadRequest, first["load"]), first["threads"])
    except RunnerError as error:
        _say(answers, {"error": str(error)})
        return
    assert isinstance(model, TokenModel)
    _say(answers, {"arithmetic": model.arithmetic})
    for line in sys.stdin:
        _say(answers, _answer(model, json.loads(line)))
    model.close()


def _answer(model: TokenModel, question: dict[str, Any]) -> dict[str, Any]:
    asked = [Asked(**one) for one in question["asked"]]
    try:
        told = model.tell(asked, question["places"], question["tokens"])
    except RunnerError as error:
        return {"error": str(error)}
    return {"told": to_json(told)}


def _say(answers: IO[str], content: dict[str, Any]) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
