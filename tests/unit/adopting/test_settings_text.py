"""Writing settings into the text of settings.toml."""

import tomllib

import pytest

from plumbline.adopting.proposal import Proposed
from plumbline.adopting.settings_text import with_settings
from tests.support.project import ROOT

TEXT = """\
# Where servers come from.
backend = "auto"

# prepare = ["python", "-m", "my_service.migrate"]

# Variables.
[env]
# DATABASE_URL = "{postgres.url}"

# A server.
[redis]
# backend = "docker"            # overrides `services`
image = "redis:8-alpine"        # for Docker

[redis.config]
appendonly = "yes"

# The installation.
[install]
application = "auto"            # "dependencies", or "off"
extras = []                     # optional dependencies
"""


@pytest.mark.parametrize(
    ("proposed", "line", "after"),
    [
        (Proposed("", "prepare", ["alembic", "upgrade", "head"]), 'prepare = ["alembic", "upgrade", "head"]', ""),
        (Proposed("", "python", "3.12"), 'python = "3.12"', 'backend = "auto"'),
        (Proposed("env", "DATABASE_URL", "{postgres.url}"), 'DATABASE_URL = "{postgres.url}"', "[env]"),
        (Proposed("env", "SECRET", 'a"b\\c'), 'SECRET = "a\\"b\\\\c"', "[env]"),
        (Proposed("redis", "backend", "off"), 'backend = "off"', "[redis]"),
        (Proposed("redis.config", "save", "60 1"), 'save = "60 1"', 'appendonly = "yes"'),
        (Proposed("install", "extras", ["web"]), 'extras = ["web"]                     # optional dependencies', None),
        (Proposed("app", "asgi", "shop.main:app"), 'asgi = "shop.main:app"', "[app]"),
    ],
)
def test_one_setting(proposed: Proposed, line: str, after: str | None) -> None:
    lines = with_settings(TEXT, [proposed]).splitlines()

    assert line in lines
    if after is not None:
        assert lines[lines.index(line) - 1] == after


def test_the_rest_stays() -> None:
    proposed = [
        Proposed("app", "asgi", "shop.main:app"),
        Proposed("app", "health_path", "/"),
        Proposed("env", "A", "1"),
    ]

    edited = with_settings(TEXT, proposed)

    assert [line for line in edited.splitlines() if line in TEXT.splitlines()] != []
    assert set(TEXT.splitlines()) <= set(edited.splitlines())
    assert edited.index("[app]") < edited.index("# The installation.") < edited.index("[install]")


def test_settings_of_the_file_stay() -> None:
    text = 'prepare = ["sh"]\n[app]\nasgi = "a:b"\n[env]\nA = "mine"\n'

    edited = with_settings(
        text, [Proposed("", "prepare", ["x"]), Proposed("app", "asgi", "c:d"), Proposed("env", "A", "")]
    )

    assert edited == text


def test_again_nothing_changes() -> None:
    proposed = [Proposed("app", "asgi", "shop.main:app"), Proposed("processes.worker", "command", ["arq", "w.S"])]

    once = with_settings(TEXT, proposed)

    assert with_settings(once, proposed) == once


def test_text_that_cannot_be_edited() -> None:
    with pytest.raises(ValueError, match=r"add to \[redis\] of it: backend = .off."):
        with_settings('redis = { image = "x" }\n', [Proposed("redis", "backend", "off")])


def test_the_settings_of_this_repository() -> None:
    text = (ROOT / "tests/performance/settings.toml").read_text(encoding="utf-8")
    proposed = [Proposed("processes.mailer", "command", ["python", "-m", "mailer"]), Proposed("app.env", "PORT", "1")]

    edited = tomllib.loads(with_settings(text, proposed))

    assert edited["processes"]["mailer"]["command"] == ["python", "-m", "mailer"]
    assert edited["app"]["env"] == {"PORT": "1"}
    before = tomllib.loads(text)
    assert {key: edited[key] for key in before if key not in ("app", "processes")} == {
        key: before[key] for key in before if key not in ("app", "processes")
    }
