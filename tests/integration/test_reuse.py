"""What was damaged in the store is never used: it is set aside, named, and made again."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.store.provenance import read_seal
from tests.integration.conftest import TINY, Called, determinants, here, records

pytestmark = pytest.mark.integration

RECIPE = (*TINY, "method=rtn", "bits=w8a16", "stages=[quantize,eval]", "tracker=none")
KEY_CHARACTERS = 20
FILES = {
    "quantize": "checkpoint/model.safetensors",
    "eval": "reference/window-*.npy",
    "text": "documents.jsonl",
    "tokens": "result.json",
}


def used_keys(store: Path) -> set[str]:
    """Keys of the evaluations, of what they were made from, and of their tokens."""
    evaluations = [*(store / "objects" / "eval").iterdir()]
    used: set[str] = set()
    waiting = [*evaluations]
    while waiting:
        one = waiting.pop()
        if one.name not in used and (seal := read_seal(one)) is not None:
            used.add(one.name)
            keys = [text for text in seal.mentions() if len(text) == KEY_CHARACTERS]
            waiting += [path for key in keys for path in store.glob(f"objects/*/{key}")]
    asked = [determinants(one) for one in evaluations]
    for one in (store / "objects" / "tokens").iterdir():
        made = {name: value for name, value in determinants(one).items() if name != "versions"}
        if any(made == {name: each.get(name) for name in made} for each in asked):
            used.add(one.name)
    return used


def damage(store: Path) -> set[str]:
    """Change a byte of a file of each stage, whose size and times stay; returns the results."""
    found, used = set(), used_keys(store)
    for stage, pattern in FILES.items():
        paths = sorted((store / "objects" / stage).glob(f"*/{pattern}"))
        # Other tests' texts lie in a fresh store, too.
        path = next(one for one in paths if one.relative_to(store).parts[2] in used)
        before, content = path.stat(), bytearray(path.read_bytes())
        content[-9] ^= 1
        path.unlink()  # a link of other stores'
        path.write_bytes(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        result = path.relative_to(store / "objects").parts[:2]
        found.add("/".join(result))
    return found


def losses(record: dict[str, Any]) -> list[Any]:
    return [s["result"]["perplexity"] for s in record["stages"] if s["stage"] == "eval"]


def test_what_was_damaged_is_set_aside_and_made_again(
    fresh: dict[str, str], tmp_path: Path
) -> None:
    store = Path(fresh["QUANT_RUNNER_STORE"])

    def run(*words: str) -> Called:
        return here(*RECIPE, *words, cwd=tmp_path, variables=fresh)

    def store_verb(*words: str) -> Called:
        return here("store", *words, cwd=tmp_path, variables=fresh)

    assert run("sweep=fresh_first").returncode == 0
    damaged = damage(store)
    verified = store_verb("verify")
    assert verified.returncode == 1
    assert {line.split(":")[0] for line in verified.stdout.splitlines()[:-2]} == damaged
    dry = run("sweep=second", "store.verify=always", "dry_run=true")
    assert "to do: " in dry.stdout
    again = run("sweep=second", "store.verify=always")
    assert again.returncode == 0, again.stderr
    for one in damaged:
        assert f"{one} is damaged" in again.stderr
    (first,), (second,) = records(store, "fresh_first"), records(store, "second")
    assert losses(second) == losses(first)
    assert len([w for w in second["warnings"] if "is damaged" in w]) == len(damaged)
    assert len(list((store / "damaged").iterdir())) == len(damaged)
    assert store_verb("verify").returncode == 0
    third = run("sweep=third", "store.verify=always")
    assert "is damaged" not in third.stderr
    assert "reused" in third.stderr
    assert "damaged results set aside: 4" in store_verb("list").stdout
    pruned = store_verb("prune", "--yes")
    assert pruned.returncode == 0
    assert not list((store / "damaged").iterdir())


def test_a_run_whose_record_was_altered_is_done_again(
    fresh: dict[str, str], tmp_path: Path
) -> None:
    store = Path(fresh["QUANT_RUNNER_STORE"])

    def run() -> Called:
        return here(*RECIPE, "sweep=kept", cwd=tmp_path, variables=fresh)

    assert run().returncode == 0
    assert "kept as it is" in run().stderr
    (path,) = store.glob("runs/kept/*/record.json")
    path.write_bytes(path.read_bytes().replace(b'"status": "ok"', b'"status": "OK"'))
    again = run()
    assert again.returncode == 0
    assert f"{path} is damaged" in again.stderr
    assert json.loads(path.read_text())["status"] == "ok"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("list", "mine"), 2, "takes no names"),
        (("show",), 2, "runner store show needs one key"),
        (("show", ""), 2, "a name is empty"),
        (("show", "../../x"), 2, "the store has no result ../../x"),
        (("show", "%"), 2, "the store has no result %"),
        (("verify", "none"), 2, "the store has no result none"),
        (("verify", "--yes"), 2, "verify deletes nothing"),
        (("prune", "--now"), 2, "takes no --now"),
        (("prune", "../.."), 2, "there is no sweep ../.."),
        (("prune", "x" * 300), 2, "there is no sweep x"),
        (("list", "store.root=/nowhere/at/all"), 2, "there is no store in /nowhere/at/all"),
    ],
)
def test_a_wrong_request_to_the_store(
    words: tuple[str, ...], code: int, said: str, command: Callable[..., Called], store: Path
) -> None:
    store.mkdir(parents=True, exist_ok=True)
    called = command("store", *words)
    assert called.returncode == code
    assert said in called.stderr
    assert len(called.stderr.splitlines()) == 1
    assert not called.stdout
