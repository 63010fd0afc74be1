"""Models and data sets of a hub: a small server stands for it, in a process that knows no other.

huggingface_hub reads its environment when it is imported.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from runner.config.schema.model import Model, ModelKind
from runner.config.schema.text import Text, TextKind
from runner.data.models.hub import require_revision
from runner.data.texts.hub import hub_files
from runner.errors import UsageError
from tests.hostile_files import CONFIG

pytestmark = pytest.mark.unit

COMMIT = "c0ffee" + "0" * 34
CODED = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.C"}}
WHOLE = {
    "config.json": json.dumps(CONFIG).encode(),
    "model.safetensors": save({"a.weight": np.ones((2, 2), np.float16)}),
    "tokenizer.json": b"{}",
}
REPOSITORIES: dict[str, dict[str, bytes]] = {
    "owner/whole": {**WHOLE, "consolidated.safetensors": b"second", "run.py": b"code"},
    "owner/files": {"b.gguf": b"GGUF", "a.gguf": b"GGUF"},
    "owner/bare": {"README.md": b"none"},
    "owner/coded": {"config.json": json.dumps(CODED).encode(), "mine.py": b""},
    "owner/empty": {"config.json": WHOLE["config.json"]},
    "owner/gated": WHOLE,
    "owner/set": {"data/a.txt": b"first", "data/b.txt": b"second", "c.md": b"other"},
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as downloads use."""

    def do_GET(self) -> None:
        asked = self.path.partition("?")[0].removeprefix("/api").strip("/")
        asked = asked.removeprefix("models/").removeprefix("datasets/")
        owner, name, what, revision, file = (asked + "////").split("/", 4)
        files, file = REPOSITORIES.get(f"{owner}/{name}"), file.strip("/")
        if files is None:
            self.answer(404, code="RepoNotFound")
        elif revision not in ("main", COMMIT):
            self.answer(404, code="RevisionNotFound")
        elif what == "revision":
            siblings = [{"rfilename": one} for one in files]
            said = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": siblings}
            self.answer(200, json.dumps(said).encode())
        elif what == "tree":
            entries = [
                {"type": "file", "path": one, "size": len(files[one]), "oid": one} for one in files
            ]
            self.answer(200, json.dumps(entries).encode())
        elif name == "gated":
            self.answer(403, code="GatedRepo")
        elif file not in files:
            self.answer(404, code="EntryNotFound")
        else:
            self.answer(200, files[file])

    do_HEAD = do_GET

    def answer(self, status: int, content: bytes = b"", code: str | None = None) -> None:
        self.send_response(status)
        for key, value in {
            "X-Error-Code": code, "X-Repo-Commit": COMMIT, "ETag": f'"{hash(content):x}"',
            "Content-Length": str(len(content)),
        }.items():  # fmt: skip
            if value is not None:
                self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: pytest shows what a test prints."""


MODELS: dict[str, tuple[dict[str, Any], str]] = {
    "whole": ({}, "config.json model.safetensors tokenizer.json"),
    "files": (
        {},
        "UsageError: owner/files has no config.json, but a.gguf, b.gguf: choose one with",
    ),
    "bare": ({}, "StageError: owner/bare has no config.json; it is not a Hugging Face model"),
    "coded": ({}, "StageError: owner/coded needs the code that ships with it (mine.C): read it"),
    "empty": ({}, "StageError: owner/empty has no weights"),
    "pickled": ({"allow_pickle": True}, "config.json pytorch_model.bin"),
    "gated": ({}, "StageError: owner/gated is gated: accept its licence on the hub and set HF_TO"),
    "absent": ({}, "StageError: the hub has no owner/absent at main: check model.hub_id and"),
    "whole ": ({"revision": "v9"}, "StageError: the hub has no owner/whole at v9: check"),
    "files ": ({"file": "c.gguf"}, "StageError: owner/files has no file c.gguf at main: check mod"),
    "files  ": ({"file": "a.gguf"}, "a.gguf"),
}
"""What is asked of a repository (blanks tell it apart), and what comes of it."""
SETS: dict[str, tuple[str, str]] = {
    "set": ("data/*.txt", "a.txt b.txt"),
    "set ": ("*.json", "StageError: data set owner/set has no file *.json"),
    "gated": ("*.json", "StageError: data set owner/gated is gated: accept its terms on the hub"),
    "absent": ("a", "StageError: the hub has no data set owner/absent at its main branch"),
    "a/b": ("a", "UsageError: hub_id=owner/a/b is not of the form owner/name"),
}
SCRIPT = """
import json, sys
from runner.config.schema.model import Model, ModelKind
from runner.config.schema.text import Text, TextKind
from runner.data.models.gguf_source import gguf_file
from runner.data.models.locate import code_refusal, locate
from runner.data.texts.hub import hub_files
from runner.errors import StageError, UsageError
from runner.planning.model_facts import model_facts
def tell(ask, *given):
    try:
        found = ask(*given)
    except (StageError, UsageError) as error:
        return f"{type(error).__name__}: {error}"
    if isinstance(found, list):
        return " ".join(path.name for path in found)
    return " ".join(sorted(p.name for p in found.iterdir())) if found.is_dir() else found.name
models, sets = json.load(sys.stdin)
said = []
def planned(name):
    try:
        model = Model(name="m", kind=ModelKind.hub, hub_id=f"owner/{name}")
        hidden = model_facts(model, fetch=True).architecture.hidden
    except UsageError as error:
        return str(error)
    (repository,) = huggingface_hub.scan_cache_dir().repos
    files = [file.file_name for one in repository.revisions for file in one.files]
    return f"{hidden} {files}"
import huggingface_hub
plans = [planned(name) for name in ("whole", "files", "absent")]
for name, (fields, _) in models.items():
    model = Model(name="m", kind=ModelKind.hub, hub_id=f"owner/{name.strip()}", **fields)
    if name == "coded":
        before = code_refusal(model)
    said.append(tell(gguf_file if model.file else locate, model))
    if name == "coded":
        after = code_refusal(model)
for name, (member, _) in sets.items():
    text = Text("t", TextKind.hub, hub_id=f"owner/{name.strip()}", member=member)
    said.append(tell(hub_files, text))
import huggingface_hub.constants
huggingface_hub.constants.HF_HUB_OFFLINE = True
offline = tell(locate, Model(name="m", kind=ModelKind.hub, hub_id="owner/files"))
json.dump([said, before, after, offline, plans], sys.stdout)
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    torch.save({"a.weight": torch.ones(1)}, tmp_path / "pickled")
    weights = (tmp_path / "pickled").read_bytes()
    config = WHOLE["config.json"]
    REPOSITORIES["owner/pickled"] = {"config.json": config, "pytorch_model.bin": weights}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_read_is_fetched_and_what_cannot_be_had_is_told(hub: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=json.dumps([MODELS, SETS]),
        capture_output=True, text=True, check=True,
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub,
             "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_TOKEN": ""},
    )  # fmt: skip
    said, before, after, offline, plans = json.loads(done.stdout)
    expected = [*(one for _, one in MODELS.values()), *(one for _, one in SETS.values())]
    for found, wanted in zip(said, expected, strict=True):
        assert found.startswith(wanted), found
        assert ": " in wanted or found == wanted
    assert before is None, "nothing of it is here yet"
    assert after.startswith("owner/coded needs the code that ships with it (mine.C)")
    assert offline.endswith("has no config.json; it is not a Hugging Face model")
    # A plan fetches one file, and is refused in one sentence where there is none.
    assert plans[0] == f"{CONFIG['hidden_size']} ['config.json']"
    assert plans[1].startswith(
        "the dimensions of owner/files are not known: owner/files has no file"
    )
    assert plans[2].startswith("the dimensions of owner/absent are not known: the hub has no owner")


@pytest.mark.parametrize("revision", ["", "../main", "-x", "/etc", "a\nb"])
def test_a_revision_that_would_lead_elsewhere_is_refused(revision: str) -> None:
    model = Model(name="m", kind=ModelKind.hub, hub_id="owner/name", revision=revision)
    with pytest.raises(UsageError, match="is not a branch, tag or commit of the repository"):
        require_revision(model)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"hub_id": "owner/name"}, "text t needs hub_id and member"),
        ({"member": "a"}, "text t needs hub_id and member"),
        ({"hub_id": "owner/name", "member": "../a"}, r"member=\.\./a leads out of the data set"),
        ({"hub_id": "owner/name", "member": "/a"}, "member=/a leads out of the data set"),
    ],
)
def test_a_data_set_is_told_whole(fields: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        hub_files(Text("t", TextKind.hub, **fields))
