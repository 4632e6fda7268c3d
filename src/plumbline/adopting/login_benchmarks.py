"""The starter benchmarks of routes that want a login."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from plumbline.adopting.benchmarks import listed, literal, quoted
from plumbline.adopting.forms import fresh_value
from plumbline.adopting.logins import login_route
from plumbline.adopting.made_up import MadeUp
from plumbline.adopting.tried import FailedLogin, Login, Route

LOGIN_FILE = "test_logged_in.py"
FIXTURE = "\n@pytest.fixture"  # ends what may differ between two files with a login to complete
WIDTH = 77
BENCHMARKS = '''"""Benchmarks of routes that want a login."""
{note}
{imports}from collections.abc import AsyncIterator

import httpx
import pytest
from plumbline import Measure

{comment}ROUTES = [
{routes}]
{user}

@pytest.fixture(scope="session")
async def client(api_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client that is logged in."""
    async with httpx.AsyncClient(
        base_url=api_url,
        timeout=10,
        trust_env=False,
    ) as client:
{steps}
        yield client


@pytest.mark.readiness
@pytest.mark.parametrize("route", ROUTES)
async def test_answers(client: httpx.AsyncClient, route: str) -> None:
    """The route answers the user with status 200."""
    response = await client.get(route)
    assert response.status_code == 200


@pytest.mark.parametrize("route", ROUTES)
async def test_get(
    client: httpx.AsyncClient,
    measure: Measure,
    route: str,
) -> None:
    """GET the route as the user."""
    async for timer in measure():
        with timer:
            response = await client.get(route)
        assert response.status_code == 200
'''
WITHOUT_HTTPS = "# Also send cookies for HTTPS.\nfor cookie in client.cookies.jar:\n    cookie.secure = False"
BEARER = 'client.headers["Authorization"] = f"Bearer {token}"'


def login_benchmarks(routes: Sequence[str], login: Login, left_out: Mapping[str, int] = {}) -> str:
    """Return a test file that logs in and measures a GET request to each route.

    `left_out`: the status of routes that did not answer 200 to this user.
    """
    user = f"\nUSER = {literal(login.user)}\n" if login.user else ""
    others = "".join(f"    # {quoted(route)} answered {status or 'nothing'}\n" for route, status in left_out.items())
    imports = "import os\n" if any("os.environ" in one for one in login.fields.values()) else ""
    imports += "import re\n" if login.fresh or login.sign_up_fresh else ""
    return BENCHMARKS.format(
        note="", imports=imports, comment="", routes=listed(routes) + others, user=user, steps=_steps(login)
    )


def login_to_write(routes: Sequence[str], known: Iterable[Route], tried: Iterable[FailedLogin] = ()) -> str:
    """Return a test file with a login to complete. `tried`: logins that failed."""
    route = login_route(known) or Route("POST", "/login")
    body = route.made_up or MadeUp("data", {"username": "", "password": ""})
    is_basic = route.wants == "basic"
    credentials = '("…", "…")' if is_basic else literal(dict.fromkeys(body.values, "…"))
    steps = [
        "# The user has to be in the seed data of `prepare`.",
        f'pytest.skip("write the login in {LOGIN_FILE}")',
        f"credentials = {credentials}",
        _post("response", route.path, "auth" if is_basic else body.how, "credentials"),
        "response.raise_for_status()",
        _token(("access_token",)),
    ]
    comment = "".join(map(_failed, tried))
    note = "\n# They are skipped until you write the login below.\n"
    indented = textwrap.indent("\n".join(steps), " " * 8)
    return BENCHMARKS.format(note=note, imports="", comment=comment, routes=listed(routes), user="", steps=indented)


def _steps(login: Login) -> str:
    steps = []
    if login.sign_up:
        steps += _page(login.sign_up_page, login.sign_up_fresh, is_secure=login.has_secure_cookies)
        body = f"USER | {{{quoted(login.sign_up_fresh)}: found[1]}}" if login.sign_up_fresh else "USER"
        steps.append(_post("signed_up", login.sign_up, login.sign_up_how, body))
        steps.append("# The sign-up is refused if the user exists already.")
        # Otherwise the next request fails, as the server has closed the connection.
        steps.append('assert not signed_up.is_server_error, f"sign-up: {signed_up}"')
    if login.how == "auth":
        steps.append(f"credentials = ({', '.join(login.fields.values())})")
    else:
        steps += _page(login.page, login.fresh, is_secure=login.has_secure_cookies)
        sources = login.fields | ({login.fresh: "found[1]"} if login.fresh else {})
        fields = [f"    {quoted(name)}: {source}," for name, source in sources.items()]
        steps += ["credentials = {", *fields, "}"]
    steps += [_post("response", login.path, login.how, "credentials"), *_check(login)]
    if login.has_secure_cookies:
        steps.append(WITHOUT_HTTPS)
    if login.token:
        steps.append(_token(login.token))
    return textwrap.indent("\n".join(steps), " " * 8)


def _page(path: str, fresh: str, *, is_secure: bool) -> list[str]:
    """Return lines that get the page of a form, and in it the hidden field that is new on each page."""
    if not fresh:
        return []
    return [
        f"page = await client.get({quoted(path)})",
        *([WITHOUT_HTTPS] if is_secure else []),
        f"found = re.search(\n    r'{fresh_value(fresh)}',\n    page.text,\n)",
        f'assert found, "the form has no {fresh}"',
    ]


def _check(login: Login) -> list[str]:
    """Return lines that fail if the login did. They show an answer to the made-up user only: it may repeat a password.

    Formatters of any line length leave them as they are.
    """
    good = "not response.is_error" if login.page else "response.is_success"
    if not login.sign_up:
        return [f'assert {good}, f"login: {{response}}"']
    return [
        'said = f"sign-up: {signed_up} {signed_up.text[:300]!r}"',
        'said += f"; login: {response} {response.text[:300]!r}"',
        f"assert {good}, said",
    ]


def _post(name: str, path: str, how: str, value: str) -> str:
    return f"{name} = await client.post(\n    {quoted(path)},\n    {how}={value},\n)"


def _token(place: Iterable[str]) -> str:
    return f"token = response.json(){''.join(f'[{quoted(name)}]' for name in place)}\n{BEARER}"


def _request(login: Login) -> str:
    if login.how == "auth":
        return f"{quoted(login.path)}, auth=({', '.join(login.fields.values())})"
    fields = ", ".join(f"{quoted(name)}: {source}" for name, source in login.fields.items())
    return f"{quoted(login.path)}, {login.how}={{{fields}}}"


def _failed(failed: FailedLogin) -> str:
    """Return a comment on a login that did not work."""
    login = failed.login
    body = f"{login.sign_up_how}={login.user!r}"
    sent = [f"POST {login.sign_up} {body}, then"] if login.sign_up else []
    lines = [" ".join(["`init` tried:", *sent, f"POST {_request(login)}"]), failed.error]
    wrapped = [one for line in lines for one in textwrap.wrap(line, WIDTH, break_on_hyphens=False)]
    return "".join(f"# {one}\n" for one in wrapped)
