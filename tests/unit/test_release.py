"""Checkpoints handed on: the command that makes one again, model card, directory, hub."""

import functools
import json
import shlex
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from runner.api import compose_config
from runner.cli.main import main
from runner.config.schema.release import Release
from runner.config.schema.root import Config
from runner.errors import StageError, UsageError
from runner.release.export import Exported, prepare, write
from runner.release.licence import licence_of
from runner.release.metadata import eval_results
from runner.release.publish import require_repository, send
from runner.release.remake import Remake, remake
from runner.release.subject import Subject, find_subject
from runner.store.objects import ObjectStore
from runner.store.placement import Placement
from runner.store.provenance import write_seal
from runner.store.records import RunRecord, StageRecord, Status, write_record
from runner.util.redact import MASK
from runner.util.serialise import to_json
from tests.unit.records import evaluation, whole

pytestmark = pytest.mark.unit

KEY = "0123456789abcdef0123"
ASKED = [
    "stages=[quantize,eval]", "model=local", "model.path='/my models/base'", "method=rtn",
    "bits=w8a16", "group_size=g32", "engine=vllm", "eval=quick", "eval.windows=7",
]  # fmt: skip


@functools.cache
def _composed(words: tuple[str, ...]) -> Config:
    return compose_config(words)


def composed(words: Sequence[str]) -> Config:
    """Composing takes a third of a second."""
    return _composed(tuple(words))


@pytest.fixture(scope="module")
def asked() -> dict[str, Any]:
    """A resolved configuration."""
    content: dict[str, Any] = to_json(composed(ASKED))
    return content


def recorded(config: dict[str, Any]) -> RunRecord:
    made = {
        "recipe": {"method": config["method"], "calibration": {"text": {"path": "/secret/t.txt"}}},
        "checkpoint_format": "compressed-tensors", "bits_per_weight": 8.25,
        "checkpoint_bytes": 1000,
    }  # fmt: skip
    quality = evaluation([1.0, 2.0, 3.0], 8.5, 8.0)
    tasks = {"tasks": [
        {"task": name, "items": 9, "scores": [
            {"metric": "acc_norm", "filter": "none", "value": value, "higher_is_better": True}
        ]} for name, value in (("hellaswag", 0.4567), ("mine", 0.5))
    ]}  # fmt: skip
    record = RunRecord(
        "s", "000-rtn", "rtn-w8a16-g32", "base", "vllm", Status.ok, None, "2026-11-28T00:00:00",
        1.0, [], config,
    )  # fmt: skip
    record.stages = [
        StageRecord(stage, "recipe", KEY, False, 1.0, "default", {}, whole(stage, result))
        for stage, result in (("quantize", made), ("eval", quality), ("tasks", tasks))
    ]
    return record


@pytest.fixture
def store(tmp_path: Path, asked: dict[str, Any]) -> ObjectStore:
    """A store with a run and its checkpoint, and its base model beside it."""
    store = ObjectStore(tmp_path / "store")
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: other\nlicense_name: mine\n---\n# Base\n")
    (base / "LICENSE").write_text("terms")
    record = recorded(asked)
    record.placement = Placement({"baseline": str(base)}, None, "cuda", "auto")
    result = store.root / "objects/quantize" / KEY
    (result / "checkpoint").mkdir(parents=True)
    (result / "checkpoint/model.safetensors").write_bytes(b"weights")
    (result / "checkpoint/config.json").write_text('{"model_type": "llama"}')
    (result / "result.json").write_text(json.dumps({"result": record.stages[0].result}))
    write_seal(result, {})
    write_record(store.runs, record)
    return store


@pytest.fixture
def subject(store: ObjectStore) -> Subject:
    return find_subject(store, "s/000-rtn")


def test_the_command_says_all_that_the_record_says(asked: dict[str, Any]) -> None:
    found = remake(recorded(asked), composed)
    assert found.unsaid == []
    again = to_json(composed(found.words))
    assert {name for name in again if again[name] != asked[name]} == set()
    assert "eval=quick" in found.words and "eval.windows=7" in found.words
    words = shlex.split(found.command)
    assert words[0] == "runner" and "my models" not in found.command
    assert words[1:3] == ["stages=[quantize,eval]", "model=local"]
    assert "model.path=base" in words and found.places == ["model.path"]


def test_what_cannot_be_said_is_named(asked: dict[str, Any]) -> None:
    other = {**asked["engine"], "quantization": MASK, "gone": 1}
    unsaid = " ".join(remake(recorded({**asked, "engine": other}), composed).unsaid)
    assert "engine.quantization" in unsaid and "engine.gone" in unsaid


def exported(subject: Subject, **settings: Any) -> Exported:
    remade = Remake(["method=rtn"])
    return prepare(subject, "org/small", remade, Release(**settings))


def test_the_card_is_read_by_the_hubs_own_library(subject: Subject, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard
    from huggingface_hub import parse_eval_result_entries as parsed

    write(exported(subject, base_model="org/base"), tmp_path / "out")
    card = ModelCard.load(tmp_path / "out/README.md")
    data = card.data.to_dict()
    assert (data["base_model"], data["base_model_relation"]) == ("org/base", "quantized")
    assert (data["license"], data["license_name"]) == ("other", "mine")
    assert card.data.model_name == "small"
    results = {(one.dataset_type, one.metric_type): one for one in card.data.eval_results}
    assert results["wikipedia", "perplexity"].metric_value == 8.5
    assert "gptq_512" in results["wikipedia", "perplexity"].metric_name
    assert results["Rowan/hellaswag", "acc_norm"].metric_value == 0.4567
    for said in ("| 8.500 |", "+0.5 [+0.4, +0.6]", "0.457", "vllm serve org/small",
                 "runner method=rtn", f"key `{KEY}`", "8.25 bits"):  # fmt: skip
        assert said in card.text, said
    assert "/secret" not in card.text
    (file,) = (tmp_path / "out/.eval_results").iterdir()
    (entry,) = parsed(yaml.safe_load(file.read_text()))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("Rowan/hellaswag", "hellaswag", 45.67)
    assert list(eval_results(subject)) == ["hellaswag.yaml"]


def test_an_export_is_whole_and_shares_weights_alone(subject: Subject, tmp_path: Path) -> None:
    target = tmp_path / "deep/out"
    write(exported(subject), target)
    names = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert names == {"README.md", "LICENSE", "config.json", "model.safetensors",
                     "quant_runner.yaml", ".eval_results/hellaswag.yaml"}  # fmt: skip
    assert (target / "model.safetensors").samefile(subject.directory / "model.safetensors")
    (target / "config.json").write_text("edited")
    assert subject.directory.joinpath("config.json").read_text() != "edited"
    with pytest.raises(UsageError, match="is there already"):
        write(exported(subject), target)
    assert [path.name for path in target.parent.iterdir()] == ["out"]


def test_only_a_sound_checkpoint_is_handed_on(store: ObjectStore, asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="no run of sweep s matches nothing"):
        find_subject(store, "s/nothing")
    other = recorded(asked)
    other.run, other.stages = "001-none", other.stages[1:]
    write_record(store.runs, other)
    with pytest.raises(UsageError, match="s has 2 runs"):
        find_subject(store, "s")
    with pytest.raises(UsageError, match="made no checkpoint"):
        find_subject(store, "s/001-none")
    (store.root / "objects/quantize" / KEY / "checkpoint/config.json").write_text("{}")
    with pytest.raises(StageError, match=r"config\.json has changed"):
        find_subject(store, "s/000-rtn")


@pytest.mark.parametrize("text", ["", "no front matter", "---\n[", "---\na: 1", "---\n- 1\n---\n"])
def test_a_licence_that_is_not_stated_is_unknown(text: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(text)
    assert licence_of(None, tmp_path).id is licence_of(None, None).id is None
    assert licence_of("mit", tmp_path).id == "mit"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("export s/0", "takes two names, not 1: runner export SWEEP/RUN DIR"),
        ("export s/0 out method=rtn", "method=rtn has no effect"),
        ("export s/0 out release.private=false", "has no effect on a directory"),
        ("export s/0 out --force", "takes no --force"),
        ("publish s/0 name", "write ORG/NAME"),
        ("publish s/0 a/b/c", "names no repository"),
    ],
)
def test_a_wrong_request_is_refused(
    line: str, complaint: str, store: ObjectStore, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("QUANT_RUNNER_STORE", str(store.root))
    monkeypatch.setattr("sys.argv", ["runner", *line.split()])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert complaint in capsys.readouterr().err


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as takes small files into one repository."""

    repositories: ClassVar[dict[str, dict[str, Any]]] = {}

    def _answer(self, content: Any, status: int = 200, **headers: str) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        name = self.path.removeprefix("/api/models/").partition("/")[0:1]
        known = self.repositories.get("/".join(self.path.split("/")[3:5]))
        if known is None:
            self._answer({"error": name}, 404, X_Error_Code="RepoNotFound")
        else:
            self._answer({"id": "org/m", "private": known["private"], "siblings": []})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != "Bearer hf_right":
            self._answer({"error": "no"}, 401)
        elif self.path == "/api/repos/create":
            asked = json.loads(raw)
            name = f"{asked['organization']}/{asked['name']}"
            self.repositories[name] = {"private": asked["visibility"] == "private", "files": {}}
            self._answer({"url": f"{self.server.server_name}/{name}"})
        elif "/preupload/" in self.path:
            files = [one["path"] for one in json.loads(raw)["files"]]
            self._answer({"files": [
                {"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in files
            ]})  # fmt: skip
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        else:
            lines = [json.loads(line) for line in raw.splitlines()]
            files = {one["value"]["path"] for one in lines if one["key"] == "file"}
            self.repositories["/".join(self.path.split("/")[3:5])]["files"] = files
            self._answer(
                {"commitUrl": f"http://{self.headers['Host']}/org/m/commit/1", "commitOid": "1"}
            )


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, dict[str, Any]]]:
    """A hub on this machine; gives its repositories."""
    from huggingface_hub import constants

    server = HTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Hub.repositories = {}
    yield Hub.repositories
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_repository_is_private_unless_asked(
    hub: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sent"
    (folder / ".eval_results").mkdir(parents=True)
    (folder / ".eval_results/one.yaml").write_text("[]")
    (folder / "README.md").write_text("card")

    def sent(private: bool) -> str:
        return send(folder, "org/m", private=private, revision=None, about="rtn")

    assert sent(private=True).endswith("/org/m/commit/1")
    assert hub["org/m"] == {"private": True, "files": {"README.md", ".eval_results/one.yaml"}}
    hub["org/m"] = {"private": False, "files": {}}
    with pytest.raises(UsageError, match=r"org/m is public.*release\.private=false"):
        sent(private=True)
    assert not hub["org/m"]["files"]
    sent(private=False)
    assert hub["org/m"]["files"]
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UsageError, match="hf auth login"):
        sent(private=False)


@pytest.mark.parametrize("name", ["a", "a/b/c", "a/..", "-a/b", "a b/c", "/"])
def test_a_repository_has_a_name(name: str) -> None:
    with pytest.raises(UsageError, match="names no repository"):
        require_repository(name)
