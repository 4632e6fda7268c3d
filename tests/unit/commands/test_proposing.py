"""What `plumbline init` says about a proposal."""

import pytest

from plumbline.adopting.findings import Findings, FoundApplication
from plumbline.adopting.tried import Answer, Route, Tried
from plumbline.commands.proposing import Proposal, summary

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
