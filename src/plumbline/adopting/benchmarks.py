"""The starter benchmarks that `plumbline init` writes."""

import ast
import json
import keyword
from collections.abc import Sequence
from typing import Any

from plumbline.adopting.tried import Route

ROUTES_FILE, POST_FILE = "test_routes.py", "test_post.py"

ROUTES = '''"""Benchmarks of the routes without parameters."""

# Add requests that your users make.

import httpx
import pytest
from plumbline import Measure

ROUTES = [
{routes}]


@pytest.mark.readiness
@pytest.mark.parametrize("route", ROUTES)
async def test_answers(http_client: httpx.AsyncClient, route: str) -> None:
    """The route answers with status 200."""
    response = await http_client.get(route)
    assert response.status_code == 200


@pytest.mark.parametrize("route", ROUTES)
async def test_get(
    http_client: httpx.AsyncClient,
    measure: Measure,
    route: str,
) -> None:
    """GET the route."""
    async for timer in measure():
        with timer:
            response = await http_client.get(route)
        assert response.status_code == 200
'''

POST = '''"""A benchmark of a route that takes the example of its schema."""

import httpx
from plumbline import Measure

BODY = {body}


async def test_post(http_client: httpx.AsyncClient, measure: Measure) -> None:
    """POST the body."""
    async for timer in measure():
        with timer:
            response = await http_client.post(
                {path},
                json=BODY,
            )
        assert response.is_success
'''

LIBRARY = '''"""Benchmarks of {package}."""

# Add one like this for each function whose time matters. Call the function in
# the block `with timer`, with the input of a usual day.

import subprocess
import sys

from plumbline import Measure


def test_import(measure: Measure) -> None:
    """Import the package in a fresh Python."""
    for timer in measure():
        with timer:
            subprocess.run(
                [sys.executable, "-c", "import {package}"],
                check=True,
            )
'''


def route_benchmarks(routes: Sequence[str]) -> str:
    """Return a test file that measures a GET request to each route."""
    return ROUTES.format(routes=listed(routes))


def with_routes(text: str, routes: Sequence[str]) -> str:
    """Return a test file with these routes at the end of its list ROUTES; unchanged if it has no such list."""
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError):
        return text
    for one in statements:
        if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "ROUTES" and isinstance(one.value, ast.List):
            lines, new = text.split("\n"), [f"    {quoted(route)}," for route in routes]
            first, last = one.lineno - 1, one.value.end_lineno or one.lineno
            if lines[last - 1] == "]" and _ends_with_comma(lines, one.value.elts):
                lines[last - 1 : last - 1] = new
            else:
                kept = [f"    {ast.get_source_segment(text, element)}," for element in one.value.elts]
                lines[first:last] = ["ROUTES = [", *kept, *new, "]"]
            return "\n".join(lines)
    return text


def _ends_with_comma(lines: Sequence[str], elements: Sequence[ast.expr]) -> bool:
    if not elements:
        return False
    end = elements[-1]
    line = lines[(end.end_lineno or end.lineno) - 1].encode()
    return line[end.end_col_offset :].lstrip().startswith(b",")


def post_benchmark(route: Route) -> str:
    """Return a test file that measures a POST request with the body that the route documents."""
    return POST.format(path=quoted(route.path), body=literal(route.body))


def library_benchmarks(package: str) -> tuple[str, str]:
    """Return the name and the text of a test file for a package without an application. Raises ValueError."""
    if not package.isidentifier() or keyword.iskeyword(package):
        raise ValueError(f"{package!r} can't be imported")
    return f"test_{package}.py", LIBRARY.format(package=package)


def listed(routes: Sequence[str]) -> str:
    """Return the lines of a list of routes."""
    return "".join(f"    {quoted(route)},\n" for route in routes)


def literal(value: Any, indent: int = 0) -> str:
    """Return a value of JSON as Python source that formatters of any line length leave as it is."""
    inner, deeper = " " * (indent + 4), indent + 4
    if isinstance(value, dict) and value:
        lines = [f"{inner}{quoted(key)}: {literal(one, deeper)},\n" for key, one in value.items()]
        return f"{{\n{''.join(lines)}{' ' * indent}}}"
    if isinstance(value, list) and value:
        lines = [f"{inner}{literal(one, deeper)},\n" for one in value]
        return f"[\n{''.join(lines)}{' ' * indent}]"
    return quoted(value) if isinstance(value, str) else repr(value)


def quoted(text: str) -> str:
    """Return a string as Python source."""
    return json.dumps(text, ensure_ascii=False)
