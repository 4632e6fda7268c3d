"""The starter benchmarks of an application."""

import ast
import json
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from plumbline.adopting.benchmarks import POST_FILE, ROUTES_FILE
from plumbline.adopting.findings import FoundApplication
from plumbline.adopting.login_benchmarks import LOGIN_FILE
from plumbline.adopting.made_up import MadeUp
from plumbline.adopting.starters import MOST_ROUTES, has_no_login, not_measured, starters
from plumbline.adopting.tried import Answer, FailedLogin, Login, Route, Tried

SHOP = FoundApplication("asgi", "shop.main:app", ".", "fastapi", "")


def tried(*answers: tuple[str, str, int], body: Any = None) -> Tried:
    each = tuple(Answer(Route(method, path, body=body), status, 0.01) for method, path, status in answers)
    return Tried(routes=tuple(answer.route for answer in each), answers=each)


def routes_in(text: str) -> list[str]:
    assigned = {ast.unparse(one.targets[0]): one.value for one in ast.parse(text).body if isinstance(one, ast.Assign)}
    found: list[str] = ast.literal_eval(assigned["ROUTES"])
    return found


def test_routes_that_answer(tmp_path: Path) -> None:
    good = ["/orders", '/odd"\\', "/docs", "/api/openapi.json"]
    seen = tried(*(("GET", path, 200) for path in good), ("GET", "/broken", 500))

    found = starters(tmp_path, SHOP, seen, {})

    assert [*found] == [ROUTES_FILE]
    assert routes_in(found[ROUTES_FILE]) == ["/orders", '/odd"\\']


def test_only_documented_routes_of_an_admin_are_measured(tmp_path: Path) -> None:
    """Others are pages that a framework adds."""
    routes = [Route("GET", path, is_documented="api" in path) for path in ("/admin/api", "/admin/pages", "/api")]
    seen = Tried(routes=(*routes,), answers=tuple(Answer(one, 200, 0.01) for one in routes))

    [text] = starters(tmp_path, SHOP, seen, {}).values()

    assert routes_in(text) == ["/admin/api", "/api"]


def test_new_routes_are_added(tmp_path: Path) -> None:
    [text] = starters(tmp_path, SHOP, tried(("GET", "/orders", 200)), {}).values()
    existing = {ROUTES_FILE: text + "\n# mine\n", "test_mine.py": 'client.get("/items")'}

    found = starters(tmp_path, SHOP, tried(*(("GET", path, 200) for path in ("/orders", "/items", "/new"))), existing)

    assert routes_in(found[ROUTES_FILE]) == ["/orders", "/new"]
    assert found[ROUTES_FILE].endswith("\n# mine\n")


def test_more_routes_than_one_run_measures(tmp_path: Path) -> None:
    """The next run adds them."""
    count = MOST_ROUTES + 2
    seen = tried(*(("GET", f"/{number}", 200 if number < count else 401) for number in range(count * 2)))
    files = starters(tmp_path, SHOP, seen, {})
    assert not_measured(seen, files) == ["/20", "/21"]
    assert not_measured(seen, files | starters(tmp_path, SHOP, seen, files)) == []
    assert not_measured(seen, files, refused=True) == ["/42", "/43"]


def test_unusual_paths(tmp_path: Path) -> None:
    """They are written as Python source, and known again. A path that a client takes for a host is left out."""
    paths = ["/größe", "/new\nline", "/100%", "/a{b", "/em😀", "/a\u2028b"]
    seen = tried(*(("GET", path, 200) for path in [*paths, "//host/x"]))
    [text] = starters(tmp_path, SHOP, seen, {}).values()

    again = starters(tmp_path, SHOP, tried(*(("GET", path, 200) for path in [*paths, "/b"])), {ROUTES_FILE: text})

    assert routes_in(text) == paths
    assert routes_in(again[ROUTES_FILE]) == [*paths, "/b"]


def test_comments_in_the_list_stay(tmp_path: Path) -> None:
    text = 'ROUTES = [\n    "/a",  # slow\n    # "/b": another team\'s\n]\n'

    found = starters(tmp_path, SHOP, tried(*(("GET", path, 200) for path in ("/a", "/b", "/c"))), {ROUTES_FILE: text})

    assert found[ROUTES_FILE] == text.replace("]", '    "/c",\n]')


def test_a_file_without_routes_stays(tmp_path: Path) -> None:
    for text in "x = 1\n", "ROUTES = load()\n", "def broken(\n":
        assert starters(tmp_path, SHOP, tried(("GET", "/new", 200)), {ROUTES_FILE: text}) == {ROUTES_FILE: text}


def test_a_post_with_its_example(tmp_path: Path) -> None:
    body = {"name": 'a "b"', "price": 1.5, "is_offer": None, "tags": ["x"] * 30}

    found = starters(tmp_path, SHOP, tried(("POST", "/refused", 422), ("POST", "/orders", 201), body=body), {})

    assigned = {
        ast.unparse(one.targets[0]): one.value
        for one in ast.parse(found[POST_FILE]).body
        if isinstance(one, ast.Assign)
    }
    assert ast.literal_eval(assigned["BODY"]) == body
    assert '"/orders",\n                json=BODY,' in found[POST_FILE]


def test_a_login_to_write(tmp_path: Path) -> None:
    seen = Tried(
        routes=(Route("POST", "/api/session/login"), Route("POST", "/api/login/access-token")),
        answers=(Answer(Route("GET", "/me"), 401, 0.01), Answer(Route("GET", "/admin-only"), 403, 0.01)),
    )

    found = starters(tmp_path, SHOP, seen, {})

    assert [*found] == [LOGIN_FILE]
    assert routes_in(found[LOGIN_FILE]) == ["/me", "/admin-only"]
    assert '"/api/login/access-token"' in found[LOGIN_FILE]
    assert '"username": "…",' in found[LOGIN_FILE]
    assert "data=credentials" in found[LOGIN_FILE]
    assert starters(tmp_path, SHOP, seen, found) == {}

    seen = Tried(
        routes=(Route("POST", "/token", made_up=MadeUp("json", {"email": "", "password": ""})),), answers=seen.answers
    )
    assert '"/token",\n            json=credentials' in starters(tmp_path, SHOP, seen, {})[LOGIN_FILE]


def test_a_login_that_may_work(tmp_path: Path) -> None:
    """The file is Python, and says what a failed login was answered. Only a file that nobody completed is replaced."""
    user = {"email": 'a"b@example.com', "password": "x"}
    login = Login("/login", "json", {"email": 'USER["email"]'}, ("data", "token"), "/signup", user=user)
    refused = tried(("GET", "/me", 401), ("GET", "/admin", 403), ("POST", "/login", 422))
    logged_in = (Answer(Route("GET", "/me"), 200, 0.01), Answer(Route("GET", "/admin"), 403, 0.01))
    [to_write] = starters(tmp_path, SHOP, refused, {}).values()
    [text] = starters(
        tmp_path, SHOP, replace(refused, login=login, logged_in=logged_in), {LOGIN_FILE: to_write}
    ).values()
    error = "login: <Response [401]>\n'no'"
    failed = replace(refused, failed_logins=(FailedLogin(login, error),))
    [said] = starters(tmp_path, SHOP, failed, {LOGIN_FILE: to_write}).values()

    compile(text, LOGIN_FILE, "exec")
    assert (routes_in(text), '    # "/admin" answered 403\n]' in text) == (["/me"], True)
    for line in "json=USER,", 'response.json()["data"]["token"]', '"email": USER["email"],', "signed_up.text[:300]":
        assert line in text
    compile(said, LOGIN_FILE, "exec")
    assert "# login: <Response [401]> 'no'\n" in said
    for sketch in to_write, said:
        assert has_no_login(refused.routes, {LOGIN_FILE: sketch})
    assert not has_no_login(refused.routes, {LOGIN_FILE: to_write.replace("…", "ada")})
    assert not has_no_login(refused.routes, {LOGIN_FILE: text})


def test_no_sign_up_is_measured(tmp_path: Path) -> None:
    """A second one with the same body would be refused."""
    route = Route("POST", "/users", body={"password": "x"}, made_up=MadeUp("json", {"password": "x"}))
    assert starters(tmp_path, SHOP, Tried(answers=(Answer(route, 201, 0.01),)), {}) == {}


def test_a_library(tmp_path: Path) -> None:
    for folder in "tests", "src/shop":
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "__init__.py").touch()

    found = starters(tmp_path, None, Tried(), {})

    assert [*found] == ["test_shop.py"]
    assert json.dumps("import shop") in found["test_shop.py"]
    ast.parse(found["test_shop.py"])
    assert starters(tmp_path, None, Tried(), found) == {}


def test_a_slow_route_is_left_out(tmp_path: Path) -> None:
    """Its benchmark would not end within the time limit of a test."""
    seen = tried(("GET", "/orders", 200), ("GET", "/report", 200))
    first, second = seen.answers

    found = starters(tmp_path, SHOP, replace(seen, answers=(first, replace(second, seconds=2.0))), {})

    assert routes_in(found[ROUTES_FILE]) == ["/orders"]
