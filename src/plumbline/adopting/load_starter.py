"""The starter locustfile of `plumbline load`."""

import ast
import contextlib
import json
from pathlib import Path

from plumbline.adopting.benchmarks import ROUTES_FILE

FILE = '''"""What users do in a load test. Each arrival runs one task."""

# Add the requests that your users make. A task with @task(3) runs three times as often.

from locust import FastHttpUser, task


class User(FastHttpUser):
{tasks}'''

TASK = """\
    @task
    def get_{number}(self) -> None:
        self.client.get({route})
"""


def load_starter(suite: Path) -> str:
    """Return a locustfile with the routes of the starter benchmarks that `init` has written, or else with `/`."""
    routes = routes_in(suite / ROUTES_FILE) or ["/"]
    tasks = [TASK.format(number=number, route=json.dumps(route)) for number, route in enumerate(routes, 1)]
    return FILE.format(tasks="\n".join(tasks))


def routes_in(file: Path) -> list[str]:
    """Return the list ROUTES of a module, none if there is no such file or list."""
    with contextlib.suppress(OSError, SyntaxError, ValueError):
        for one in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(one, ast.Assign) and [ast.unparse(name) for name in one.targets] == ["ROUTES"]:
                found = ast.literal_eval(one.value)
                return [route for route in found if isinstance(route, str)]
    return []
