"""Secrets are planted wherever a user may have some, and looked for in every byte that is left."""

import base64
import contextlib
import gzip
import json
import shutil
import urllib.parse
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.config.compose import quoted
from tests.integration.conftest import base_model, elsewhere, here, records

pytestmark = pytest.mark.integration

PLANTED = {
    "variable": "hf_thisIsATokenThatMustNotShow",
    "odd variable": 'w1th "quotes" and/slashes',
    "wandb": "0123456789abcdef0123456789abcdef01234567",
    "index": "index-Pa55word",
    "proxy": "proxy-Pa55word",
    "server": "server-Pa55word",
    "env_set": "env-set-t0ken-value",
    "environment": "environment-t0ken-value",
    "build variable": "build-t0ken-value",
    "model's path": "path-t0ken-value",
    "URL in an override": "override-Pa55word",
    "tag": "AKIAQ1W2E3R4T5Y6U7I8",
    "notes": "ghp_q1w2e3r4t5y6u7i8o9p0q1w2e3r4t5y6",
    "printed JWT": "eyJhbGciOiJIUzI1.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl",
    "printed": "printed-t0ken-value",
    "refused": "refused-t0ken-value",
}
MODULE = """
import base64, json, os, sys, urllib.parse
for name, value in os.environ.items():
    print(name, value, repr(value), json.dumps(value), urllib.parse.quote(value, safe=""),
          base64.b64encode(f"user:{value}".encode()).decode())
print("eyJhbGciOiJIUzI1.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl", flush=True)
"""
"""Imported by every worker: a library that is far too talkative."""


def spellings(secret: str) -> Iterator[bytes]:
    yield secret.encode()
    yield urllib.parse.quote(secret, safe="").encode()
    yield json.dumps(secret)[1:-1].encode()
    for before in (b"", b"u", b"us"):
        # Without the characters that what stands around it decides.
        yield base64.b64encode(before + secret.encode())[4:-4]


def left(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file's name and content, and what archives hold."""
    for path in folder.rglob("*"):
        yield str(path), str(path.relative_to(folder)).encode()
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        yield str(path), content
        with contextlib.suppress(OSError, EOFError):
            yield f"{path} unpacked", gzip.decompress(content)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    yield f"{path}!{name}", archive.read(name)


@pytest.fixture
def planted(fresh: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Variables of a user with many secrets, and with a library that prints all of them."""
    (modules := tmp_path / "modules").mkdir()
    (modules / "talkative.py").write_text(MODULE)
    kept = {name: value for name, value in fresh.items() if "PROXY" not in name.upper()}
    return {
        **kept,
        "PYTHONPATH": str(modules),
        "HF_TOKEN": PLANTED["variable"],
        "MY_SERVICE_PASSWORD": PLANTED["odd variable"],
        "WANDB_API_KEY": PLANTED["wandb"],
        "WANDB_BASE_URL": f"http://me:{PLANTED['server']}@127.0.0.1:9",
        "PIP_INDEX_URL": f"http://me:{PLANTED['index']}@127.0.0.1:9/simple",
        "PIP_FIND_LINKS": "",
        "MIRROR_PROXY": f"http://me:{PLANTED['proxy']}@127.0.0.1:9",
        "FOLDER_TOKEN": PLANTED["model's path"],
        "PRINTED_SECRET": PLANTED["printed"],
    }


def test_no_byte_that_is_left_shows_a_secret(
    planted: dict[str, str], shared_store: Path, tmp_path: Path
) -> None:
    store = Path(planted["QUANT_RUNNER_STORE"])
    (work := tmp_path / "work").mkdir()
    model = work / PLANTED["model's path"] / "model"
    shutil.copytree(base_model(shared_store, records(shared_store, "for_fresh")[0]), model)
    notes = f"by {PLANTED['notes']}, http://me:{PLANTED['URL in an override']}@host"
    common = (
        "model=local", f"model.path={quoted(model)}", "eval=quick", "group_size=g32",
        "stages=[quantize,eval]", "method=rtn", f"tracker.directory={quoted(work / 'tracking')}",
        f"tracker.tags=[{PLANTED['tag']},mine]", f"tracker.notes={quoted(notes)}",
        f"+environment.default.variables.SERVICE_TOKEN={PLANTED['environment']}",
        f"+hydra.job.env_set={{SET_TOKEN:{PLANTED['env_set']}}}",
    )  # fmt: skip
    legacy = (
        "env", "create", "legacy", f"store.environments={quoted(work / 'environments')}",
        f"+environment.legacy.build_variables.BUILD_TOKEN={PLANTED['build variable']}",
        "environment.legacy.requirements=['no-such-package-of-ours==1']",
    )  # fmt: skip
    # A run that succeeds and one whose worker fails, with all that is ever written about them.
    sweep = (
        "-m", *common, "sweep=secrets", "eval.windows=4,1000000", "hydra.output_subdir=.hydra",
        "environment.default.preload=[talkative]",
    )  # fmt: skip
    done = [
        elsewhere(*sweep, cwd=work, variables=planted),
        here(*legacy, cwd=work, variables=planted),
        here(*common, "--cfg", "all", cwd=work, variables=planted),
        here(*common, f"+a.token={PLANTED['refused']}", cwd=work, variables=planted),
    ]
    assert [one.returncode for one in done] == [1, 1, 0, 2], [one.stderr for one in done]
    assert [one["status"] for one in records(store, "secrets")] == ["ok", "failed"]
    logs = [path.read_text() for path in store.glob("logs/*.log")]
    assert any("SERVICE_TOKEN ***" in log for log in logs), "the library did print them"
    assert any("127.0.0.1:9/simple" in log for log in logs), "the installer did say where it looked"

    # The model lies in a folder that the user has named so.
    shutil.rmtree(work / PLANTED["model's path"])
    written = [(name, text) for folder in (store, work) for name, text in left(folder)]
    written += [(" ".join(one.stderr[:50]), (one.stdout + one.stderr).encode()) for one in done]
    shown = [
        f"{what} in {name}: {content[max(0, content.index(one) - 60) :][:120]!r}"
        for what, secret in PLANTED.items()
        for one in spellings(secret)
        for name, content in written
        if one in content
    ]
    assert not shown, "\n".join(shown)
