"""Choose the starter benchmarks of an application by its answers to requests."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from plumbline.adopting import benchmarks
from plumbline.adopting.benchmarks import POST_FILE, ROUTES_FILE
from plumbline.adopting.findings import FoundApplication
from plumbline.adopting.login_benchmarks import FIXTURE, LOGIN_FILE, login_benchmarks, login_to_write
from plumbline.adopting.tried import Answer, Route, Tried

MOST_ROUTES = 20
NO_PACKAGES = {"tests", "test", "docs", "examples", "scripts", "build", "dist"}
# Pages that frameworks add: their time is not that of the application.
OF_FRAMEWORKS = re.compile(
    r"/(docs|redoc|openapi|schema|swagger|static|__debug__|metrics)(?![\w-])|.*/(openapi|swagger|apispec)\.(json|ya?ml)$"
)
ADMIN = re.compile(r"/admin(?![\w-])")


def starters(
    root: Path,
    application: FoundApplication | None,
    tried: Tried,
    existing: Mapping[str, str],
) -> dict[str, str]:
    """Return the test files to write, by name. `existing` are those of the suite: they keep what they have."""
    if application is None:
        return {} if existing else _of_library(root)
    new = not_measured(tried, existing)[:MOST_ROUTES]
    found: dict[str, str] = {}
    if new and ROUTES_FILE in existing:
        found[ROUTES_FILE] = benchmarks.with_routes(existing[ROUTES_FILE], new)
    elif new:
        found[ROUTES_FILE] = benchmarks.route_benchmarks(new)
    # A second sign-up of the same user would be refused.
    posts = [
        one.route for one in tried.answers if one.route.method == "POST" and one.is_success and not one.route.made_up
    ]
    if posts and POST_FILE not in existing:
        found[POST_FILE] = benchmarks.post_benchmark(posts[0])
    if tried.login:
        statuses = {one.route.path: one.status for one in tried.logged_in if not one.is_slow}
        good = [path for path, status in statuses.items() if status == 200]
        left_out = {path: status for path, status in statuses.items() if status != 200}
        found[LOGIN_FILE] = login_benchmarks(good, tried.login, left_out)
    elif (refused := refused_routes(tried.answers)) and (LOGIN_FILE not in existing or tried.failed_logins):
        found[LOGIN_FILE] = login_to_write(refused[:MOST_ROUTES], tried.routes, tried.failed_logins)
    return found


def not_measured(tried: Tried, existing: Mapping[str, str], *, refused: bool = False) -> list[str]:
    """Return the routes that answer 200, or those that want a login, that no test file names."""
    measured = "\n".join(existing.values())
    found = refused_routes(tried.answers) if refused else _own_paths(one for one in tried.answers if one.status == 200)
    return [path for path in found if benchmarks.quoted(path) not in measured]


def has_no_login(routes: Iterable[Route], existing: Mapping[str, str]) -> bool:
    """Return whether the file with the login is missing, or as `init` wrote it to be completed."""
    to_write = login_to_write([], routes).partition(FIXTURE)[2]
    return LOGIN_FILE not in existing or existing[LOGIN_FILE].partition(FIXTURE)[2] == to_write


def refused_routes(answers: Iterable[Answer]) -> list[str]:
    """Return the routes that want a login."""
    return _own_paths(one for one in answers if one.wants_login)


def _own_paths(answers: Iterable[Answer]) -> list[str]:
    def is_own(one: Answer) -> bool:
        # A client with a base URL takes what follows // for another host.
        path = one.route.path
        return (
            one.route.method == "GET"
            and not one.is_slow
            and not OF_FRAMEWORKS.match(path)
            and (one.route.is_documented or not ADMIN.match(path))
            and not path.startswith("//")
        )

    return [one.route.path for one in answers if is_own(one)]


def _of_library(root: Path) -> dict[str, str]:
    folders = [one.parent for place in (root / "src", root) for one in sorted(place.glob("*/__init__.py"))]
    packages = [one.name for one in folders if one.name not in NO_PACKAGES and one.name.isidentifier()]
    return dict([benchmarks.library_benchmarks(packages[0])]) if packages else {}
