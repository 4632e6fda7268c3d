"""Passwords are hidden in every encoding, and other words stay."""

import base64
import html
import io
import json
import os
import shlex
from typing import TextIO
from urllib.parse import quote, quote_plus

import pytest

from plumbline.services.redaction import Redactor, Secret, Terminal, known_secrets, secrets_in, secrets_of
from plumbline.settings import Settings

PASSWORD = """p@s!$/w o'r"d\\x%é&<2+"""
GENERATED = "AbCd-fGhIjKlMnOpQrStUvWxYz_12345"
SPELLINGS = {
    "as it is": PASSWORD,
    "quoted": quote(PASSWORD, safe=""),
    "in lower case": quote(PASSWORD, safe="").replace("%2F", "%2f").replace("%C3", "%c3"),
    "in part": quote(PASSWORD, safe="!$/@"),
    "in a form": quote_plus(PASSWORD),
    "twice": quote(quote(PASSWORD, safe=""), safe=""),
    "repr": repr(PASSWORD),
    "repr of a repr": repr(repr(PASSWORD)),
    "ascii": ascii(PASSWORD),
    "bytes": repr(PASSWORD.encode()),
    "JSON": json.dumps(PASSWORD),
    "JSON in JSON": json.dumps(json.dumps(PASSWORD)),
    "JSON in Unicode": json.dumps(PASSWORD, ensure_ascii=False),
    "shell": shlex.quote(PASSWORD),
    "backslashes": "".join(one if one.isalnum() else f"\\{one}" for one in PASSWORD),
    "HTML": html.escape(PASSWORD),
    "SQL": PASSWORD.replace("'", "''"),
    "configparser": PASSWORD.replace("%", "%%"),
    "a header": base64.b64encode(f"me:{PASSWORD}".encode()).decode(),
    "alone in base64": base64.urlsafe_b64encode(PASSWORD.encode()).decode(),
    "two lines": f"{PASSWORD[:5]}\n{PASSWORD[5:]}",
    "two lines of pytest": f"{PASSWORD[:5]}\nE     {PASSWORD[5:]}",
    "two literals": f"{PASSWORD[:5]}'\n 'b'{PASSWORD[5:]}".replace("b'", ""),
    "coloured": f"{PASSWORD[:5]}\x1b[1m{PASSWORD[5:]}",
}


def redacted(text: str, *secrets: Secret) -> str:
    return Redactor(secrets)(text)


def of(url: str) -> list[Secret]:
    return [*secrets_of(url)]


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_every_encoding_is_hidden(spelling: str) -> None:
    """The text around it stays."""
    found = redacted(f"before {spelling} after", Secret(PASSWORD, "me"))

    assert "***" in found
    assert found.startswith("before ")
    assert found.endswith(" after")
    assert len(found) < 30, found


@pytest.mark.parametrize("typed", [quote(PASSWORD, safe=""), "p%40s!$%2fword1", "p@s!/word1", "%70assword1"])
def test_a_password_is_hidden_as_it_was_typed(typed: str) -> None:
    """With or without percent-encoding."""
    for text in (typed, *(one.text for one in of(f"redis://me:{typed}@localhost/0"))):
        assert redacted(f"got {text}!", *of(f"redis://me:{typed}@localhost/0")) == "got ***!"


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        ("E   assert 'redis://:AbCd-fGhIj...WxYz_12345@host/0'", "E   assert 'redis://:***@host/0'"),
        ("E   assert 'AbCd-fGhIj...WxYz_12345'", "E   assert '***...***'"),
        ("E     - uvWxYz\nE     + UvWxYz_12345@host/1", "E     - uvWxYz\nE     + ***@host/1"),
        ("E     - redis://:AbCd-fGhIj\nE     ?", "E     - redis://:***\nE     ?"),
    ],
)
def test_a_part_is_hidden(cut: str, expected: str) -> None:
    """pytest shortens a text in the middle, and omits common starts and ends of two texts."""
    assert redacted(cut, Secret(GENERATED)) == expected


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://postgres:postgres@localhost/shop",
        "postgresql://me:shopping@localhost/shopping",
        "redis://me:checkout@checkout:6379/0",
        "redis://:app@localhost/0",
        "postgresql://me:password@localhost/shop",
    ],
)
def test_a_password_that_is_a_name_is_hidden_in_urls_only(url: str) -> None:
    """A name of a user, database, host or service, or a word of fewer than six characters."""
    text = "postgres: SELECT 1 FROM shopping, test_checkout.py::test_app[checkout], wrong password for app"

    assert redacted(f"{text} at {url}", *of(url)) == f"{text} at {url.partition(':')[0]}://" + (
        url.partition("://")[2].partition(":")[0] + ":***@" + url.rpartition("@")[2]
    )


def test_a_password_that_names_another_server_stays() -> None:
    """Otherwise it would be hidden in each message about that server."""
    secrets = [*of("postgresql://me:p4ssw0rd@h/shopping"), *of("redis://:shopping@h"), Secret("123456")]

    assert redacted("shopping p4ssw0rd, redis://:shopping@h", *secrets) == "shopping ***, redis://:***@h"
    assert redacted("1234567 and 123456", *secrets) == "1234567 and ***"


def test_a_word_is_hidden_as_a_word() -> None:
    """A password of letters is not hidden within a longer word."""
    text = "customized, customize!\ncustomize %3Acustomize%40 \\ncustomize"

    assert redacted(text, Secret("customize")) == "customized, ***!\n*** %3A***%40 \\n***"


def test_an_unknown_password_is_hidden_in_a_url() -> None:
    """For example that of a message broker."""
    assert redacted("amqp://me:p4ss@broker//, x?sslpassword=abc&y=1") == "amqp://me:***@broker//, x?sslpassword=***&y=1"


@pytest.mark.parametrize("text", ["http://localhost:8000/user@example", "a: b@c", "10:30 me@example.org", ""])
def test_text_without_passwords_stays(text: str) -> None:
    assert redacted(text, Secret(PASSWORD)) == text


def test_known_secrets() -> None:
    """Passwords of any environment variable and of URLs in the settings, but no placeholders."""
    settings = Settings(env={"A": "amqp://u:of-settings@h", "B": "redis://:{redis.password}@h"})
    environ = {"PERF_REDIS_URL": "redis://:of-perf@h", "PIP_INDEX_URL": "https://u:of-index@h/s", "PGPASSWORD": "of-pg"}
    found = {secret.text for secret in known_secrets(environ, settings)}

    assert found == {"of-settings", "of-perf", "of-index", "of-pg"}


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [("SMTP_PASS", True), ("DBPASS", True), ("KEY_PASSPHRASE", True), ("API_TOKEN", True), ("BYPASS", False)],
)
def test_names_of_secrets(name: str, is_secret: bool) -> None:
    assert [secret.text for secret in secrets_in({name: "correcthorse"})] == ["correcthorse"] * is_secret


def test_a_long_token_and_a_long_text() -> None:
    """Long tokens and texts are searched in reasonable time."""
    token = "eyJ" + "abcdefgh0123" * 200
    assert redacted(f"x {token} y", Secret(token)) == "x *** y"
    text = "A" * 300_000 + "u://" * 30_000 + "x: " * 30_000
    assert redacted(text, Secret(token), Secret(PASSWORD)) == text
    for piece in ("\\n", '"\n"', "\\\\", "\n    ", "E   ", "%25", "&amp;", "'\\''", "\x1b[0m", "."):
        text = f"A{piece * 3_000} " + f"p@{piece * 3_000}"
        assert redacted(text, Secret(GENERATED), Secret(PASSWORD)) == text


def test_a_closed_pipe_does_not_end_the_run() -> None:
    """Further output is discarded."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as file:
        terminal = Terminal(file, str.upper)
        assert terminal.write("one") == 3
        assert terminal.write("two") == 3
    shown: TextIO = io.StringIO()
    Terminal(shown, str.upper).write("three")
    assert shown.getvalue() == "THREE"  # type: ignore[attr-defined]
