"""What `plumbline init` says about a proposal."""

import pytest

from plumbline.adopting.findings import Findings, FoundApplication
from plumbline.adopting.tried import Answer, Route, Tried
from plumbline.commands.proposing import Proposal, summary

SHOP = FoundApplication("asgi", "shop.main:app", ".", "fastapi", "")


@pytest.mark.parametrize(
    ("error", "is_shown"),
    [
        ('UndefinedTableError: relation "user" does not exist, shop/users.py:46', True),
        ("OperationalError: no such table: user", True),
        ("KeyError: 'user'", False),
    ],
)
def test_a_missing_table(error: str, is_shown: bool) -> None:
    tried = Tried(answers=(Answer(Route("GET", "/users"), 500, 0.01, error),))
    lines = summary(Proposal(SHOP, "", [], tried, Findings()))
    assert any("a table is missing: add the command that creates the tables" in line for line in lines) is is_shown
