"""The messages of `plumbline init` about a proposal."""

from pathlib import Path

import pytest

from plumbline.adopting.findings import Findings, FoundApplication, FoundCommand
from plumbline.adopting.proposal import Proposed
from plumbline.adopting.tried import Answer, Route, Tried
from plumbline.commands import proposing
from plumbline.commands.proposing import Proposal, summary
from plumbline.settings import Settings

SHOP = FoundApplication("asgi", "shop.main:app", ".", "fastapi", "")


@pytest.mark.parametrize(
    ("variable", "port"),
    [
        ('PGPORT = "{postgres.port}"\nREDIS_URL = "{redis.url}"', "{postgres.port}"),
        ('DB_PORT = "{postgres.port}"', "{redis.port}"),
        ('DB_URL = "{postgres.url}"\nREDIS_URL = "{redis.url}"', ""),
    ],
)
def test_a_connection_that_is_refused(variable: str, port: str) -> None:
    """The port that no variable takes is named."""
    tried = Tried(failed="application", message="ConnectionRefusedError: [Errno 111] Connect call failed")
    findings = Findings(services={"postgres": "pyproject.toml", "redis": "pyproject.toml"})
    lines = summary(Proposal(SHOP, f"[env]\n{variable}\n", [], tried, findings))
    said = [line for line in lines if "gives it the port" in line]
    assert [line.rpartition(" ")[2] for line in said] == ([port] if port else [])


@pytest.mark.parametrize(
    ("error", "is_shown"),
    [
        ('UndefinedTableError: relation "user" does not exist, shop/users.py:46', True),
        ("OperationalError: no such table: user", True),
        ('InvalidSchemaNameError: schema "shop" does not exist', True),
        ("KeyError: 'user'", False),
    ],
)
def test_a_missing_table(error: str, is_shown: bool) -> None:
    tried = Tried(answers=(Answer(Route("GET", "/users"), 500, 0.01, error),))
    lines = summary(Proposal(SHOP, "", [], tried, Findings()))
    assert any("a table is missing: add the command that creates the tables" in line for line in lines) is is_shown


def test_sql_files_that_the_application_loads_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They are not proposed for `prepare`."""

    def trial(settings: Settings, *_: object, **__: object) -> Tried:
        return Tried(failed="application", message='relation "item" already exists') if settings.prepare else Tried()

    monkeypatch.setattr(proposing, "try_application", trial)
    load = FoundCommand("sql", ("python", "-m", "plumbline.load_sql", "schema.sql"), "schema.sql:1")

    proposal = proposing._tried(tmp_path, "", Findings(prepare=(load,), sql=("schema.sql",)), SHOP, lambda *_: False)

    assert (proposal.tried.failed, "prepare" in proposal.settings) == (None, False)


def test_a_driver_of_postgresql_beside_sqlite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """PostgreSQL is off if the migrations connect to a file instead."""
    failed = Tried(failed="prepare", message="prepare did not connect to the PostgreSQL of this run", sqlite=("a.db",))

    def trial(settings: Settings, *_: object, **__: object) -> Tried:
        return Tried() if settings.backend_of("postgres") == "off" else failed

    monkeypatch.setattr(proposing, "try_application", trial)
    migrate = FoundCommand("django", ("python", "manage.py", "migrate"), "manage.py:1")

    proposal = proposing._tried(
        tmp_path, "", Findings(prepare=(migrate,), services={"postgres": "x"}), SHOP, may_log_in=lambda *_: False
    )

    assert proposal.tried.failed is None


def test_variables_that_only_a_trial_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Their names say which part of an address they hold."""

    def trial(settings: Settings, *_: object, **__: object) -> Tried:
        return Tried() if settings.env else Tried(failed="prepare", missing_variables=("DB_HOST", "DB_NAME", "LEVEL"))

    monkeypatch.setattr(proposing, "try_application", trial)

    proposal = proposing._tried(tmp_path, "", Findings(services={"postgres": "x"}), SHOP, lambda *_: False)

    assert {one.key: one.value for one in proposal.proposed if one.seen == "required, with no default"} == {
        "DB_HOST": "{postgres.host}",
        "DB_NAME": "{postgres.database}",
        "LEVEL": "plumbline",
    }


def test_a_setting_that_stays_is_named() -> None:
    own = 'prepare = [["python", "seed.py"], ["alembic", "upgrade", "head"]]\n'
    found = Proposed("", "prepare", ["alembic", "upgrade", "head"], "alembic.ini")
    lines = summary(Proposal(SHOP, own, [found], Tried(), Findings(services={"postgres": "pyproject.toml"})))

    assert "      settings.toml has another value, which stays" in lines
    assert not any("N+1" in line for line in lines)


def test_an_application_that_answers_no_path_with_200() -> None:
    """The errors of its routes are shown: they may be why."""
    answers = (Answer(Route("GET", "/up"), 500, 0.01, "KeyError: 'x'"), Answer(Route("GET", "/me"), 401, 0.01))
    lines = summary(Proposal(SHOP, "", [], Tried(failed="application", answers=answers), Findings()))

    assert lines[2:5] == ["", "it runs, but no path was found that answers 200:", "  GET /up  500: KeyError: 'x'"]


def test_routes_without_a_benchmark_are_counted() -> None:
    routes = (Route("GET", "/users"), Route("POST", "/users"), Route("GET", "/users/{id}", has_parameters=True))
    lines = summary(Proposal(SHOP, "", [], Tried(routes=routes), Findings()))

    [said] = [line for line in lines if "write benchmarks" in line]
    assert said.startswith("  2 routes with")
    assert said.endswith("such as POST /users, GET /users/{id}")


def test_a_route_that_gets_a_benchmark_is_not_counted() -> None:
    routes = (Route("POST", "/users"), Route("DELETE", "/users"))
    tried = Tried(routes=routes, answers=(Answer(routes[0], 201, 0.01),))
    lines = summary(Proposal(SHOP, "", [], tried, Findings()))

    [said] = [line for line in lines if "write benchmarks" in line]
    assert said.startswith("  1 route with other methods")
    assert said.endswith("such as DELETE /users")
