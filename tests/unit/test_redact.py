"""Credentials never reach a record, a log or a tracker."""

import ast
import base64
import io
import json
import re
import urllib.parse
from pathlib import Path

import pytest

from runner.util.masked_stream import MaskedStream
from runner.util.paths import conf_dir
from runner.util.redact import MASK, note, redact, redact_bytes, redact_yaml, secrets
from runner.util.secrets import values
from runner.util.secrets.names import is_secret_name

pytestmark = pytest.mark.unit

SECRET = "correct-horse-battery"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("SHORT_TOKEN", "on")
    monkeypatch.setenv("NOT_HIDDEN", "plainly visible")
    monkeypatch.setattr(values, "_noted", set())


def test_secret_variables_are_found_by_name() -> None:
    found = secrets()
    assert SECRET in found
    assert "0123456789abcdef" in found
    assert "on" not in found, "too short to be one; masking it would garble text"
    assert "plainly visible" not in found


def test_values_are_masked_wherever_they_stand() -> None:
    value = {"url": f"https://user:{SECRET}@host/x", "list": [[SECRET], {"deep": f"a{SECRET}b"}]}
    assert SECRET not in json.dumps(redact(value))
    assert redact(value)["url"] == f"https://{MASK}@host/x"
    assert value["list"][0] == [SECRET], "the original is left alone"


@pytest.mark.parametrize("name", ["token", "hf_token", "api_key", "apikey", "Password", "secret"])
def test_fields_with_secret_names_are_masked(name: str) -> None:
    assert redact({name: "whatever it is"}) == {name: MASK}
    assert redact({name: None}) == {name: None}


@pytest.mark.parametrize(
    "text", [f"login with hf_{'a' * 30} please", f"key sk-{'b' * 30}", f"hf_{'A1' * 15}"]
)
def test_values_that_look_like_keys_are_masked(text: str) -> None:
    assert MASK in redact(text)
    assert "aaaa" not in redact(text) and "bbbb" not in redact(text) and "A1A1" not in redact(text)


@pytest.mark.parametrize(
    "harmless",
    [
        {"prompt_tokens": 64, "tokens_scored": 8},
        {"tokenizer": "a/path", "tokenizer_directory": "/models/x"},
        {"first_token": "x", "time_to_first_token_seconds": 0.2},
        {"method": "gptq", "bits": [4, 3.5, None, True]},
        "sk-short and hf_short stay",
    ],
)
def test_the_rest_stays(harmless: object) -> None:
    assert redact(harmless) == harmless


SECRET_NAMES = """
token hf_token accessToken api_key apiKey x-api-key OPENAI_APIKEY OPENAI_KEY HFToken HFTOKEN
HF_TOKEN_2 CI_JOB_TOKEN_VALUE GITHUB_PAT DB_PASS PGPASSWORD MYSQL_PWD pwd passwd passphrase secret
client_secret AWS_SECRET_ACCESS_KEY aws_session_token private_key credentials basic_auth auth
proxy_auth authorization use_auth_token model.kwargs.token api.key environment.x.variables.MY_TOKEN
--password hydra.job.env_set.WANDB_API_KEY
"""
HARMLESS_NAMES = """
tokens tokenizer max_tokens max_new_tokens first_token time_to_first_token token_loss token_losses
kv_cache_bytes_per_token per_token inter_token eos_token bos_token pad_token unk_token
image_token_id token_type_ids key keys key_bits cache_key kv_cache_key num_key_value_heads sort_key
PWD OLDPWD SSH_AUTH_SOCK HF_TOKEN_PATH PGPASSFILE author authors XAUTHORITY TOKENIZERS_PARALLELISM
password_file stages.key quantize.key answer_key monkey turkey bypass forward_pass compass
"""


@pytest.mark.parametrize("name", SECRET_NAMES.split())
def test_names_that_say_secret(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", HARMLESS_NAMES.split())
def test_names_that_do_not(name: str) -> None:
    assert not is_secret_name(name)


def test_no_name_of_ours_is_taken_for_a_secret() -> None:
    names = set()
    for path in conf_dir().parent.glob("runner/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                held = (one for one in node.body if isinstance(one, ast.AnnAssign))
                names |= {one.target.id for one in held if isinstance(one.target, ast.Name)}
            if isinstance(node, ast.Dict):
                held = (one for one in node.keys if isinstance(one, ast.Constant))
                names |= {one.value for one in held if isinstance(one.value, str)}
    for folder in ("conf", "sweeps"):
        for path in conf_dir().parent.glob(f"{folder}/**/*.yaml"):
            names |= set(re.findall(r"([A-Za-z_][\w.]*)\s*:", path.read_text("utf-8")))
    assert len(names) > 500
    assert not {name for name in names if is_secret_name(name)}


AWKWARD = 'a "b"\\c/d@e:f+g'
"""What every way of writing it down writes in another way."""


@pytest.mark.parametrize(
    "spell",
    [
        str,
        urllib.parse.quote,
        lambda text: urllib.parse.quote(text, safe=""),
        urllib.parse.quote_plus,
        json.dumps,
        lambda text: json.dumps(json.dumps(text)),
        repr,
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: base64.b64encode(f"user:{text}".encode()).decode(),
        lambda text: base64.urlsafe_b64encode(f"us:{text}:more".encode()).decode(),
    ],
)
def test_a_secret_is_masked_however_it_is_written(
    spell: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(spell)
    monkeypatch.setenv("A_PASSWORD", AWKWARD)
    written = spell(AWKWARD)
    masked = redact(f"before {written} after")
    assert MASK in masked and masked.startswith("before ") and masked.endswith(" after")
    assert len(masked) < len("before *** after") + 13, masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://me:s3cret@host/x?a=1", "https://***@host/x?a=1"),
        ("http://p@ss@word@host", "http://***@host"),
        ("git+ssh://git:pw@host/r@v1", "git+ssh://***@host/r@v1"),
        ("https://host/a@b", "https://host/a@b"),
        ("https://host/x?token=abc&n=5", "https://host/x?token=***&n=5"),
        ("+model.kwargs.token=abc", "+model.kwargs.token=***"),
        ("hydra.job.env_set={HF_TOKEN:abc,A:b}", "hydra.job.env_set={HF_TOKEN:***,A:b}"),
        ("++x.password='it\\'s' y=1", "++x.password='***' y=1"),
        ("--api-key=zzz --token abc --max-tokens 5", "--api-key=*** --token *** --max-tokens 5"),
        ("{'api_key': 'abc', 'key': 'k'}", "{'api_key': '***', 'key': 'k'}"),
        ('{"password": "a\\"b", "n": 3}', '{"password": "***", "n": 3}'),
        ("Authorization: Bearer abc", "Authorization: ***"),
        ("curl -H X-Api-Key: abc", "curl -H X-Api-Key: ***"),
        ("a Bearer 0123456789", "a Bearer ***"),
        ("ghp_" + "a1" * 18, "***"),
        ("github_pat_" + "a1" * 18, "***"),
        ("AKIAABCDEFGHIJKLMNOP", "***"),
        ("xoxb-123456789-abc", "***"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl", "***"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nx", "***\nx"),
        ("token=${oc.env:HF_TOKEN}", "token=${oc.env:HF_TOKEN}"),
        ("time per token: 5 ms, token=5, eos_token='</s>'",) * 2,
        ("bearer bonds, basic questions, key=3, keys: 4",) * 2,
        ("email me@example.com at http://example.com/ now",) * 2,
    ],
)  # fmt: skip
def test_text_says_what_is_secret(text: str, masked: str) -> None:
    assert redact(text) == masked
    assert redact(masked) == masked, "once is enough"


def test_all_below_a_secret_name_is_masked() -> None:
    value = {"credentials": {"user": "me", "codes": ["a", "b"]}, "password": 123, "token": 5}
    masked = {"credentials": {"user": MASK, "codes": [MASK, MASK]}, "password": MASK, "token": 5}
    assert redact(value) == masked
    assert redact({"api": {"key": "abc"}, "result": {"key": "abc"}}) == {
        "api": {"key": MASK}, "result": {"key": "abc"},
    }  # fmt: skip


def test_yaml_is_masked_by_its_lines() -> None:
    text = "a:\n  api_key: abc\n  eos_token: x\n- secret: 'a b'\n  n: 5\n"
    assert redact_yaml(text) == "a:\n  api_key: ***\n  eos_token: x\n- secret: '***'\n  n: 5\n"


def test_what_a_name_gave_away_is_masked_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    note({"kwargs": {"token": "tulips-in-may"}, "proxy": "http://me:daffodils1@host"})
    note(["+a.secret='roses-in-june'", "b=c"])
    monkeypatch.setenv("PIP_INDEX_URL", "https://__token__:pa%24sw0rd@host/simple")
    text = "tulips-in-may daffodils1 roses-in-june pa%24sw0rd pa$sw0rd host"
    assert redact(text) == "*** *** *** *** *** host"


def test_short_secrets_are_masked_as_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "h0rse")
    monkeypatch.setenv("B_TOKEN", "model")
    assert redact("h0rse h0rses a model") == "*** h0rses a model"


def test_variables_that_name_files_are_no_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file := tmp_path / "credentials.json").touch()
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    assert redact(str(file)) == str(file)


def test_bytes_that_are_no_text_stay() -> None:
    content = bytes(range(256))
    assert redact_bytes(content) == content
    assert redact_bytes(b"\xff" + SECRET.encode() + b"\xfe") == b"\xff***\xfe"


def test_masking_takes_a_time_that_grows_with_the_text_alone() -> None:
    # Each would take hours if a pattern looked at the rest of the text from every place.
    for part in (
        "a",
        "eyJ-",
        "x-",
        "a=",
        "{a",
        "--a ",
        "http://a@",
        "token='",
        '"token":',
        " ",
        "-",
    ):
        redact(part * (200_000 // len(part)) + "://@:=-{")


def test_a_token_that_stands_for_the_user_of_a_url_is_masked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://tulips-in-may-2026@host/simple")
    monkeypatch.setenv("OTHER_INDEX_URL", "https://somebody@host/simple")
    assert redact("tulips-in-may-2026, somebody") == "***, somebody"


def test_a_secret_that_begins_like_a_path_and_is_too_long_for_one_is_masked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("A_TOKEN", key := "/" + "Ab1+" * 100)
    assert redact(f"key {key}") == "key ***"


def test_lines_are_masked_one_by_one() -> None:
    written = io.StringIO()
    stream = MaskedStream(written)
    stream.writelines(["a ", SECRET, "\n"])
    assert written.getvalue() == stream.getvalue() == f"a {MASK}\n"
