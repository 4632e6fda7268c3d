"""Made-up rows are proposed if they fill an empty list, and break no route."""

import pytest

from plumbline.adopting.findings import Findings, FoundCommand
from plumbline.adopting.proposal import propose
from plumbline.adopting.seeding import empty_lists, why_no_seed, with_seed
from plumbline.adopting.tried import Answer, Route, Tried
from plumbline.settings import AppSettings

MIGRATE = FoundCommand("alembic", ("alembic", "upgrade", "head"), "alembic.ini")
USER = FoundCommand("createsuperuser", ("python", "manage.py", "createsuperuser", "--noinput"), "")
SEED = ["python", "-m", "plumbline.seed"]
BOTH = {"postgres": "pyproject.toml"}


def answer(path: str, status: int = 200, error: str = "", *, is_empty: bool = False) -> Answer:
    return Answer(Route("GET", path), status, 0.01, error, has_empty_list=is_empty)


def test_routes_with_empty_lists() -> None:
    answers = (answer("/b", is_empty=True), answer("/a", 404, is_empty=True), answer("/c"))

    assert empty_lists(Tried(answers=answers, logged_in=(answer("/a", is_empty=True),))) == ["GET /a", "GET /b"]


@pytest.mark.parametrize(
    ("app", "words"),
    [
        (AppSettings(asgi="shop.main:app"), [*SEED, "--start", "shop.main:app"]),
        (AppSettings(wsgi="shop:make_app", factory=True), [*SEED, "--start", "shop:make_app()"]),
        (
            AppSettings(command=["gunicorn", "shop.wsgi:app", "--bind", "{host}:{port}"]),
            [*SEED, "--start", "shop.wsgi:app"],
        ),
        (AppSettings(command=["python", "manage.py", "runserver", "{port}"]), None),
        (None, None),
    ],
)
def test_an_application_that_makes_its_tables(app: AppSettings | None, words: list[str] | None) -> None:
    """Without migrations, the command starts the application first."""
    found = with_seed(Findings(services=BOTH), app)

    assert [[*one.command] for one in found.prepare] == ([words] if words else [])


def test_it_comes_last_and_once() -> None:
    """It replaces the values of `prepare` that `init` has written before. Without PostgreSQL, there are no rows."""
    found = with_seed(with_seed(Findings(prepare=(MIGRATE, USER), services=BOTH), None), None)

    [prepare] = [one for one in propose(found, None) if one.key == "prepare"]
    assert prepare.value == [[*MIGRATE.command], [*USER.command], SEED]
    assert prepare.replaces == (
        [[*MIGRATE.command], SEED],
        [[*MIGRATE.command], [*USER.command]],
        [*MIGRATE.command],
    )
    assert with_seed(Findings(prepare=(MIGRATE,)), None).prepare == (MIGRATE,)


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (Tried(answers=(answer("/a"), answer("/b"))), ""),
        (Tried(answers=(answer("/a"), answer("/b", is_empty=True))), ""),
        (Tried(answers=(answer("/a", is_empty=True), answer("/b", is_empty=True))), "the same routes answer with an"),
        (Tried(answers=(answer("/a"), answer("/b", 500, "KeyError"))), "GET /b does not answer 2xx: 500: KeyError"),
        (Tried(answers=(answer("/a"),)), "GET /b does not answer 2xx: not asked"),
        (Tried(failed="prepare", message="prepare is not ready\n  x"), "left out: prepare is not ready"),
        (Tried(failed="prepare", message="prepare\n  output  plumbline.seed: no table"), "left out: no table"),
    ],
)
def test_whether_rows_help(after: Tried, why: str) -> None:
    before = Tried(answers=(answer("/a", is_empty=True), answer("/b", is_empty=True), answer("/c", 500)))

    assert [why in line for line in why_no_seed(before, after)] == ([True] if why else [])
