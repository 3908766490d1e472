"""`ringback token`: signing keys, and tokens."""

from __future__ import annotations

import io
import json
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ringback.protocol.limits import MAX_TOKEN_CHARS
from ringback.protocol.tokens import DEFAULT_AUDIENCE, INSTALL
from ringback.tokens import load_token_key, mint_token, new_token_key, save_token_key
from ringback_broker.admission.token_verifier import LEEWAY_S, TokenVerifier, Verified
from ringback_cli.app import run
from ringback_cli.commands import token as module
from ringback_cli.exits import Exit

CLIENT = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
OTHER_CLIENT = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs a command, which must succeed, and returns its one line."""

    def run_it(*arguments: str) -> str:
        assert run(list(arguments)) == Exit.OK, capsys.readouterr().err
        output, errors = capsys.readouterr()
        assert errors == ""
        (line,) = output.splitlines()
        assert output == line + "\n"
        return line

    return run_it


class _Input:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return save_token_key(new_token_key("backend"), tmp_path)


def verified(path: Path, token: str, client_key: str | None = None, audience: str = "ringback") -> Verified:
    key = load_token_key(path)
    return TokenVerifier({key.name: key.public}, audience).verify(token, client_key, time.time())


def test_new(printed: Callable[..., str], tmp_path: Path) -> None:
    line = printed("token", "new", "backend", "--dir", str(tmp_path))
    path = tmp_path / "backend.key"
    key = load_token_key(path)
    assert json.loads(line) == {"file": str(path), "public": key.public}
    assert key.secret not in line
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_new_in_the_current_folder(
    printed: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert json.loads(printed("token", "new", "backend"))["file"] == "backend.key"
    assert load_token_key("backend.key").name == "backend"


def test_new_does_not_overwrite(usage: Callable[..., str], key_file: Path) -> None:
    before = key_file.read_bytes()
    line = usage("token", "new", "backend", "--dir", str(key_file.parent))
    assert line == f"--dir: {key_file} exists already, and is not overwritten: choose another name or folder"
    assert key_file.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "expected"),
    [(("7",), 7), (("7", "--string-id"), "7"), (("ann",), "ann"), (("007",), "007")],
    ids=str,
)
def test_mint(printed: Callable[..., str], key_file: Path, options: tuple[str, ...], expected: Any) -> None:
    token = printed("token", "mint", "--key", str(key_file), "--ttl", "1h", "--id", *options)
    result = verified(key_file, token)
    assert (result.player_id, result.key_name) == (expected, "backend")
    assert 3500 < result.expires_at - time.time() <= 3601


def test_mint_for_an_audience_and_clients(printed: Callable[..., str], key_file: Path) -> None:
    token = printed(
        *("token", "mint", "--key", str(key_file), "--id", "7", "--ttl", "30s", "--audience", "shop"),
        *("--allow-key", CLIENT, "--allow-key", OTHER_CLIENT),
    )
    for client_key in (CLIENT, OTHER_CLIENT):
        assert verified(key_file, token, client_key, audience="shop").player_id == 7


def test_mint_beyond_the_limits(usage: Callable[..., str], key_file: Path) -> None:
    mint = ("token", "mint", "--key", str(key_file), "--id", "7")
    assert f"{MAX_TOKEN_CHARS} are allowed" in usage(*mint, "--ttl", "1h", *["--allow-key", CLIENT] * 40)
    assert "ttl must be above 0 and at most" in usage(*mint, "--ttl", "99999d")


def test_a_key_file_that_others_may_read(usage: Callable[..., str], key_file: Path) -> None:
    key_file.chmod(0o644)
    line = usage("token", "mint", "--key", str(key_file), "--id", "7", "--ttl", "1h")
    assert line.endswith(f"its mode is 0644: run chmod 600 {key_file}")


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("15m", 900), ("1h", 3600), ("7d", 604_800)])
def test_ttl(text: str, seconds: int) -> None:
    assert module.parse_ttl(text) == seconds


def test_show(printed: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It checks neither signature nor time, because it shows why the broker refuses a token."""
    monkeypatch.setattr("ringback.tokens.time.time", lambda: 1000.0)
    token = mint_token(new_token_key("backend"), "7", ttl=60)
    for text in (token, f" {token}\n", token.rsplit(".", 1)[0] + "."):
        monkeypatch.setattr("sys.stdin", _Input(text.encode()))
        assert json.loads(printed("token", "show")) == {
            "signature": "not checked",
            "header": {"alg": "EdDSA", "kid": "backend", "typ": "JWT"},
            "claims": {"player_id": "7", "aud": "ringback", "iat": 1000, "exp": 1060},
        }


@pytest.mark.parametrize(
    ("data", "part"),
    [(b"", "not a token"), (b"\xff", "not a token"), (b"a.b.c", "not a token"), (b"x" * 70_000, "at most")],
    ids=["empty", "not-utf8", "no-json", "long"],
)
def test_show_input_that_is_not_a_token(
    usage: Callable[..., str], monkeypatch: pytest.MonkeyPatch, data: bytes, part: str
) -> None:
    monkeypatch.setattr("sys.stdin", _Input(data))
    line = usage("token", "show")
    assert line.startswith("standard input: ")
    assert part in line


def test_show_without_standard_input(usage: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert usage("token", "show") == "there is no standard input to read a token from"


def test_without_the_extra(
    usage: Callable[..., str], monkeypatch: pytest.MonkeyPatch, key_file: Path
) -> None:
    monkeypatch.setitem(sys.modules, "jwt", None)
    monkeypatch.setattr("sys.stdin", _Input(b"a.b.c"))
    assert usage("token", "mint", "--key", str(key_file), "--id", "7", "--ttl", "1h") == INSTALL
    assert usage("token", "show") == INSTALL


def test_the_default_audience_of_the_sdk() -> None:
    assert module.DEFAULT_AUDIENCE == DEFAULT_AUDIENCE


def test_the_numbers_in_the_document() -> None:
    document = " ".join((Path(__file__).parents[3] / "docs" / "cli.md").read_text().split())
    assert f"may be up to {LEEWAY_S:g} s ahead of the broker's clock" in document
    assert f"A token has at most {MAX_TOKEN_CHARS} characters" in document


def test_as_processes(command: Any, tmp_path: Path) -> None:
    """Run processes, as $(...) in a shell does."""
    assert command("token", "new", "backend", "--dir", str(tmp_path)).end()[0] == Exit.OK
    path = tmp_path / "backend.key"
    code, output, errors = command("token", "mint", "--key", str(path), "--id", "7", "--ttl", "1h").end()
    assert (code, errors, output.count("\n")) == (Exit.OK, "", 1)
    assert verified(path, output.removesuffix("\n")).player_id == 7
    code, output, errors = command("token", "show").end(output.encode())
    assert (code, errors) == (Exit.OK, "")
    assert json.loads(output)["claims"]["player_id"] == 7
