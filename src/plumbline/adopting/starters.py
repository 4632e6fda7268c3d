"""Which starter benchmarks an application gets, by what it answered."""

import re
from collections.abc import Mapping
from pathlib import Path

from plumbline.adopting import benchmarks
from plumbline.adopting.benchmarks import LOGIN_FILE, POST_FILE, ROUTES_FILE
from plumbline.adopting.findings import FoundApplication
from plumbline.adopting.tried import Answer, Tried

MOST_ROUTES = 20
NO_PACKAGES = {"tests", "test", "docs", "examples", "scripts", "build", "dist"}
# Pages that frameworks add: their time is not that of the application.
OF_FRAMEWORKS = re.compile(
    r"/(docs|redoc|openapi|schema|swagger|static|admin|__debug__|metrics)(?![\w-])|.*/(openapi|swagger)\.(json|ya?ml)$"
)
LOGIN_NAMES = ("token", "jwt/login", "login", "jwt/create", "sign-in", "signin")


def starters(
    root: Path, application: FoundApplication | None, tried: Tried, existing: Mapping[str, str]
) -> dict[str, str]:
    """Return the test files to write, by name. `existing` are those of the suite: they keep what they have."""
    if application is None:
        return {} if existing else _of_library(root)
    measured = "\n".join(existing.values())
    new = [path for path in _answering(tried, {200}) if benchmarks.quoted(path) not in measured][:MOST_ROUTES]
    found: dict[str, str] = {}
    if new and ROUTES_FILE in existing:
        found[ROUTES_FILE] = benchmarks.with_routes(existing[ROUTES_FILE], new)
    elif new:
        found[ROUTES_FILE] = benchmarks.route_benchmarks(new)
    posts = [one.route for one in tried.answers if one.route.method == "POST" and one.is_success]
    if posts and POST_FILE not in existing:
        found[POST_FILE] = benchmarks.post_benchmark(posts[0])
    refused = _answering(tried, {401, 403})
    if refused and LOGIN_FILE not in existing:
        logins = (one.path for name in LOGIN_NAMES for one in tried.routes if one.method == "POST" and name in one.path)
        found[LOGIN_FILE] = benchmarks.login_benchmarks(refused[:MOST_ROUTES], next(logins, ""))
    return found


def _answering(tried: Tried, statuses: set[int]) -> list[str]:
    def is_own(one: Answer) -> bool:
        # A client with a base URL takes what follows // for another host.
        path = one.route.path
        return one.route.method == "GET" and not OF_FRAMEWORKS.match(path) and not path.startswith("//")

    return [one.route.path for one in tried.answers if one.status in statuses and is_own(one)]


def _of_library(root: Path) -> dict[str, str]:
    folders = [one.parent for place in (root / "src", root) for one in sorted(place.glob("*/__init__.py"))]
    packages = [one.name for one in folders if one.name not in NO_PACKAGES and one.name.isidentifier()]
    return dict([benchmarks.library_benchmarks(packages[0])]) if packages else {}
