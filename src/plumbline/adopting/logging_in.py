"""Tries to log a user in to the run's own application."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from msgspec import Struct
from msgspec.structs import replace

from plumbline.adopting.asking import Asker
from plumbline.adopting.forms import fresh_value
from plumbline.adopting.tried import Answer, FailedLogin, Login, Route

MOST_SHOWN = 300  # characters of an answer
LIMIT_S = 10.0  # hashing a password takes time


class LoggedIn(Struct, frozen=True):
    """The first login that worked, the answers to its user, and the logins before it."""

    login: Login | None = None
    answers: tuple[Answer, ...] = ()
    failed: tuple[FailedLogin, ...] = ()


class _Refused(Exception):
    """A request of the login failed."""

    def __init__(self, said: str, answer: Answer) -> None:
        super().__init__(said)
        self.answer = answer


def log_in(asker: Asker, possible: Sequence[Login], routes: Sequence[str], env: Mapping[str, str]) -> LoggedIn:
    """Try the logins in their order, up to the first whose user gets status 200 from one of the routes."""
    failed, refused = list[FailedLogin](), list[Login]()
    for login in possible:
        if replace(login, token=()) in refused:
            continue  # only the place of the token is another
        with asker.client(LIMIT_S) as client:
            try:
                is_secure = _begin(asker, client, login, env)
            except _Refused as error:
                failed.append(FailedLogin(login, str(error), error.answer.error))
                refused.append(replace(login, token=()))
                continue
            except (LookupError, TypeError, ValueError) as error:
                failed.append(FailedLogin(login, f"no token in the answer: {type(error).__name__}: {error}"))
                continue
            answers = tuple(asker.send(Route("GET", path), client=client)[0] for path in routes)
        if any(one.status == 200 for one in answers):
            return LoggedIn(replace(login, has_secure_cookies=is_secure), answers, tuple(failed))
        said = ", ".join(f"GET {one.route.path} {one.status}" for one in answers)
        cause = next((one.error for one in answers if one.error), "")
        failed.append(FailedLogin(login, f"No route answered 200 to this user: {said}.", cause))
    return LoggedIn(failed=tuple(failed))


def _begin(asker: Asker, client: httpx.Client, login: Login, env: Mapping[str, str]) -> bool:
    """Send the requests of a login, and return whether it sets cookies for HTTPS.

    Raises _Refused, or LookupError, TypeError or ValueError if there is no token.
    """
    said = ""
    if login.sign_up:  # it is refused if the user exists already
        body = {**login.user, **_fresh(asker, client, login.sign_up_page, login.sign_up_fresh)}
        answer, response = _post(asker, client, login.sign_up, **{login.sign_up_how: body})
        said = f"sign-up: {_shown(answer, response)} {response.text[:MOST_SHOWN]!r}"
        if not answer.status or response.is_server_error:
            raise _Refused(said, answer)
    values = {**login.values(env), **_fresh(asker, client, login.page, login.fresh)}
    request: dict[str, Any] = {"auth": tuple(values.values())} if login.how == "auth" else {login.how: values}
    answer, response = _post(asker, client, login.path, **request)
    if not (answer.is_success or (login.page and answer.location)):
        error = f"login: {_shown(answer, response)}"
        # Only an answer to the made-up user is shown: it may repeat a password.
        raise _Refused(f"{said}; {error} {response.text[:MOST_SHOWN]!r}" if said else error, answer)
    is_secure = _without_https(client)
    if login.token:
        token = response.json()
        for name in login.token:
            token = token[name]
        client.headers["Authorization"] = f"Bearer {token}"
    return is_secure


def _without_https(client: httpx.Client) -> bool:
    """Let the client send cookies for HTTPS over HTTP, too. Return whether there are some."""
    secure = [cookie for cookie in client.cookies.jar if cookie.secure]
    for cookie in secure:
        cookie.secure = False
    return bool(secure)


def _fresh(asker: Asker, client: httpx.Client, page: str, name: str) -> dict[str, str]:
    """Return the hidden field of a form with the value that the page has now."""
    if not page:
        return {}
    _, content = asker.send(Route("GET", page), client=client)
    _without_https(client)
    found = re.search(fresh_value(name), content.decode(errors="replace")) if name else None
    return {name: found[1]} if found else {}


def _post(asker: Asker, client: httpx.Client, path: str, **request: Any) -> tuple[Answer, httpx.Response]:
    answer, content = asker.send(Route("POST", path), client=client, **request)
    return answer, httpx.Response(answer.status or 500, content=content)


def _shown(answer: Answer, response: httpx.Response) -> str:
    return str(response) if answer.status else answer.error
