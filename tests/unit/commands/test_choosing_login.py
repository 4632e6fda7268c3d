"""`plumbline init` asks before it logs in, and describes the login."""

import sys
from collections.abc import Callable

import pytest

from plumbline.adopting.login_benchmarks import LOGIN_FILE, login_to_write
from plumbline.adopting.tried import Answer, FailedLogin, Login, Route, Tried
from plumbline.commands.choosing_login import about_login, consent

USER = {"email": "a@example.com", "password": "p"}
SIGNED_UP = Login(
    "/login", "json", {"email": 'USER["email"]', "password": 'USER["password"]'}, (), "/signup", user=USER
)
OF_VARIABLES = Login("/login", "data", {"username": 'os.environ["ADMIN"]', "grant_type": "'password'"})
ROUTES = [Route("POST", "/login")]
SKETCH = {LOGIN_FILE: login_to_write(["/me"], ROUTES)}


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Return whether `init` logs in, in a terminal whose user agrees to nothing unless `answer` is true."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)

    def asked(answer: bool = False, *, log_in: bool = False, yes: bool = False) -> bool:
        may_log_in = consent(SKETCH, lambda _: answer, log_in=log_in, yes=yes)
        return may_log_in("http://127.0.0.1:4711", ROUTES, [SIGNED_UP, OF_VARIABLES])

    return asked


def test_the_user_is_asked(ask: Callable[..., bool], capsys: pytest.CaptureFixture[str]) -> None:
    """The question names the server and all requests, but no password of a variable."""
    assert (ask(True), ask(False)) == (True, False)
    said = capsys.readouterr().out
    for shown in (
        "the application that it has started at http://127.0.0.1:4711",
        'POST /signup {"email": "a@example.com", "password": "p"}',
        'POST /login {"email": "a@example.com", "password": "p"}',
        'POST /login {"username": "$ADMIN", "grant_type": "password"}',
    ):
        assert shown in said


def test_scripts_need_the_option(ask: Callable[..., bool], capsys: pytest.CaptureFixture[str]) -> None:
    """`--yes` alone allows no login. A login that was completed by hand stays."""
    assert not ask(True, yes=True)
    assert ask(False, log_in=True, yes=True)
    completed = {LOGIN_FILE: SKETCH[LOGIN_FILE].replace("…", "ada")}
    assert not consent(completed, lambda _: True, log_in=True, yes=False)("", ROUTES, [SIGNED_UP])
    assert capsys.readouterr().out == ""


def test_what_is_said() -> None:
    [line] = about_login(Tried(logins=(SIGNED_UP,)), SKETCH)
    assert "-s init -- --log-in`" in line
    failed = FailedLogin(SIGNED_UP, "login: <Response [500]>", "KeyError: 'mail', shop/mail.py:3")
    lines = about_login(Tried(logins=(SIGNED_UP,), failed_logins=(failed,)), SKETCH)
    assert lines[1:3] == ["  login: <Response [500]>", "  KeyError: 'mail', shop/mail.py:3"]
    assert about_login(Tried(), {}, log_in=True) == ["no login was tried: no route requires one"]
    assert about_login(Tried(), {}) == []
    refused = Tried(answers=(Answer(Route("GET", "/me"), 401, 0.1),))
    [line] = about_login(refused, SKETCH, log_in=True)
    assert line.startswith("no route was found that logs a user in")
