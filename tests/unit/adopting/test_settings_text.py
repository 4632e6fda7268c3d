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
        (Proposed("install", "application", "dependencies"), 'application = "dependencies"', "[install]"),
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


@pytest.mark.parametrize(
    "text",
    [
        'prepare = [\n  ["z"],\n  ["b"]\n]\n[env]\n[install]\nextras = [\n]\n',
        '[env]\nX = """\n[app]\nasgi = ""\n# A = 1\n"""\n[install]\n',
        "[env]\n[[other]]\nb = 2\n",
        '["env"]\nB = "1"',
        '[env]\nB = "a\u2028b"\n[app]\n[app.env]\nasgi = ""\n',
        "",
    ],
)
def test_unusual_text(text: str) -> None:
    """Values of several lines, arrays of tables, quoted names: nothing but the proposed settings changes."""
    values = {"app": {"asgi": "m:app"}, "env": {"A": "x"}, "install": {"extras": ["web"]}, "python": "3.12"}
    tables = [(table, value) for table, value in values.items() if isinstance(value, dict)]
    proposed = [Proposed(table, key, value) for table, each in tables for key, value in each.items()]

    edited = tomllib.loads(with_settings(text, [*proposed, Proposed("", "python", "3.12")]))

    expected = tomllib.loads(text)
    for table, each in tables:
        expected[table] = {**expected.get(table, {}), **each}
    assert edited == {**expected, "python": "3.12"}


def test_comments_stay() -> None:
    text = 'python   =   ""   # it\'s "open"\n[ install ]  # those of #1\n\textras=[]# don\'t\n'

    edited = with_settings(text, [Proposed("", "python", "3.12"), Proposed("install", "extras", ["web"])])

    assert edited == 'python = "3.12"   # it\'s "open"\n[ install ]  # those of #1\nextras = ["web"]# don\'t\n'


def test_text_that_cannot_be_edited() -> None:
    """The error has each setting that must be written by hand."""
    text = 'redis = { image = "x" }\napp.factory = true\n'
    proposed = [
        Proposed("redis", "backend", "off"),
        Proposed("", "python", "3.12"),
        Proposed("app", "asgi", "a:b"),
    ]

    with pytest.raises(ValueError, match=r"add to it backend = .off., in \[redis\]; asgi = .a:b., in \[app\]$"):
        with_settings(text, proposed)


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


def test_a_value_of_an_earlier_run_is_replaced() -> None:
    proposed = Proposed("env", "BROKER_URL", "{rabbitmq.host}", replaces=("plumbline",))

    assert with_settings('[env]\nBROKER_URL = "plumbline"\n', [proposed]) == '[env]\nBROKER_URL = "{rabbitmq.host}"\n'
    assert with_settings('[env]\nBROKER_URL = "mine"\n', [proposed]) == '[env]\nBROKER_URL = "mine"\n'
