"""Requests to the run's own application, each route once: GET, and POST with an example that the schema documents."""

import contextlib
import json
import re
import textwrap
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import httpx

from plumbline.adopting.routes import may_change_something
from plumbline.adopting.tried import Answer, Route
from plumbline.processes import printable, with_lines
from plumbline.services.application import Application
from plumbline.services.serving import last_own_line

MOST_ROUTES, MOST_EXAMPLES = 100, 5
LIMIT_S, END_LIMIT_S, POLL_S = 3.0, 0.5, 0.02
WHOLE_LIMIT_S = 60.0
MOST_SHOWN = 300  # characters of an error
MOST_BYTES = 4 << 20
DOCUMENTS = "application/vnd.oai.openapi+json, application/json"
# The last line of a traceback.
ERROR = re.compile(
    r"^[ |]*([\w.]*(?:Error|Exception|DoesNotExist|Warning|Exit|Timeout)\b.*|(?:\w+\.)+[A-Z]\w+: .*)$", re.MULTILINE
)


class Asker:
    """A client of an application, which follows no redirect."""

    def __init__(self, app: Application, root: Path) -> None:
        self._app = app
        self._root = root

    def ask(self, routes: Iterable[Route]) -> tuple[list[Answer], list[Route]]:
        """Request each parameterless GET route once. Return the answers, and the routes that were left out."""
        routes = [*routes]
        wanted = [one for one in routes if one.method == "GET" and not one.has_parameters]
        posts = {one.path for one in routes if one.method == "POST"}
        left_out = [one for one in wanted if may_change_something(one, posts)]
        chosen, answers = [one for one in wanted if one not in left_out], list[Answer]()
        until_s = time.monotonic() + WHOLE_LIMIT_S
        for route in chosen[:MOST_ROUTES]:
            if not self._app.running() or time.monotonic() > until_s:
                break
            answers.append(self.get(route))
            if answers[-1].is_slow:  # the first request may fill a cache
                answers[-1] = self.get(route)
        return answers, [*left_out, *chosen[len(answers) :]]

    def post_examples(self, routes: Iterable[Route]) -> list[Answer]:
        """Send the documented examples to parameterless POST routes, up to the first that is accepted."""
        answers = list[Answer]()
        wanted = [one for one in routes if one.method == "POST" and one.body is not None and not one.has_parameters]
        for route in [one for one in wanted if not may_change_something(one)][:MOST_EXAMPLES]:
            if self._app.running() and not (answers and answers[-1].is_success):
                answers.append(self.send(route)[0])
        return answers

    def first_that_answers(self, paths: Sequence[str]) -> str:
        """Return the first path that answers with status 200, or ""."""
        return next((path for path in paths if self._app.running() and self.get(Route("GET", path)).status == 200), "")

    def document(self, path: str) -> Any:
        """Return the JSON document at a path, or None."""
        answer, content = self.send(Route("GET", path), accept=DOCUMENTS)
        with contextlib.suppress(ValueError):
            return httpx.Response(200, content=content).json() if answer.status == 200 else None
        return None

    def get(self, route: Route) -> Answer:
        """Send a GET request."""
        return self.send(route)[0]

    def client(self, limit_s: float = LIMIT_S) -> httpx.Client:
        """Return a client, which keeps the cookies of its answers."""
        # Certificates take time to load.
        verify = self._app.address.url.startswith("https:")
        return httpx.Client(timeout=limit_s, trust_env=False, verify=verify)

    def send(
        self, route: Route, *, client: httpx.Client | None = None, accept: str = "*/*", **request: Any
    ) -> tuple[Answer, bytes]:
        """Send one request, with the route's example unless `request` has arguments of httpx.

        An answer that does not end within the limit is an error.
        """
        began_s, status, error, content, location = time.monotonic(), 0, "", b"", ""
        begin = self._app.output_end()
        url = f"{self._app.address.url}/{route.path.removeprefix('/')}"
        limit_s = (client.timeout.read if client else None) or LIMIT_S
        try:
            # By default without cookies of earlier answers.
            with (
                contextlib.nullcontext(client) if client else self.client() as used,
                used.stream(
                    route.method, url, headers={"accept": accept}, **(request or {"json": route.body})
                ) as response,
            ):
                status = response.status_code
                location = response.headers.get("location", "") if response.is_redirect else ""
                for part in response.iter_bytes():
                    content += part
                    if time.monotonic() - began_s > limit_s or len(content) > MOST_BYTES:
                        error = f"the answer did not end within {limit_s:g} s or {MOST_BYTES >> 20} MiB"
                        break
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as problem:
            error = f"{type(problem).__name__}: {problem}".rstrip(": ")
            if isinstance(problem, httpx.TimeoutException):
                error = f"no answer within {limit_s:g} s"
            elif self._has_ended():
                error = "the application ended"
        seconds = time.monotonic() - began_s
        error = error or (self._cause(begin) if status >= 500 else "")
        return Answer(route, status, seconds, error, location, has_empty_list(content)), content

    def _cause(self, begin: int) -> str:
        """Return the last error in the output after `begin`, and the last line of the project that it passed."""
        until_s, output = time.monotonic() + END_LIMIT_S, ""
        while not ERROR.search(output) and time.monotonic() < until_s:  # some servers write it after the answer
            time.sleep(POLL_S)
            output = printable(with_lines(self._app.output_after(begin)))
        if not (errors := ERROR.findall(output)):
            return ""
        line = last_own_line(output, self._root)
        where = f", {line}" if line else ""
        return textwrap.shorten(errors[-1], MOST_SHOWN, placeholder=" …") + where

    def _has_ended(self) -> bool:
        """Return whether the application has ended. The end of a connection is seen before the end of its process."""
        until_s = time.monotonic() + END_LIMIT_S
        while self._app.running() and time.monotonic() < until_s:
            time.sleep(POLL_S)
        return not self._app.running()


def has_empty_list(content: bytes) -> bool:
    """Return whether an answer is an empty list in JSON, or an object with one."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return found == [] or (isinstance(found, dict) and [] in found.values())
