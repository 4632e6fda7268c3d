"""Runs the starter benchmarks of routes that want a login, and keeps those that work."""

import re
import tomllib
from collections.abc import Sequence

from msgspec.structs import replace

from plumbline.adopting.asking import ERROR as OUTPUT_ERROR
from plumbline.adopting.login_benchmarks import LOGIN_FILE, login_benchmarks, login_to_write
from plumbline.adopting.logins import Login, logins
from plumbline.adopting.starters import refused_routes
from plumbline.adopting.tried import Tried
from plumbline.commands.base import CommandError, Project
from plumbline.commands.measuring_run import measure
from plumbline.commands.output import say
from plumbline.project import SUITE
from plumbline.results.files import write_whole
from plumbline.results.schema import TestOutcome

READINESS = re.compile(r"::test_answers\[(.+)\]$")
STATUS = re.compile(r"assert (\d{3}) == 200")
ERROR = re.compile(r"^E +(?:AssertionError: )?((?:sign-up|login|[\w.]*(?:Error|Exception|Timeout)).*)", re.MULTILINE)
MOST_SHOWN = 600  # characters of an error


def logins_of(tried: Tried, settings: str) -> list[Login]:
    """Return the logins that the routes and the text of `settings.toml` make possible."""
    found = tomllib.loads(settings)
    env = {name: str(value) for name, value in found.get("env", {}).items()}
    commands = found.get("prepare", [])
    return logins(tried.routes, env, [word for one in commands for word in (one if isinstance(one, list) else [one])])


def choose_login(project: Project, tried: Tried, possible: Sequence[Login]) -> None:
    """Write the first login that works, with the routes that answer 200 to its user; or a login to complete."""
    file, routes, failed = project.suite / LOGIN_FILE, refused_routes(tried), list[tuple[Login, str]]()
    for login in possible:
        answered = [one for one, error in failed if re.search("(login|sign-up): <", error)]
        if any(replace(one, token=login.token) == login for one in answered):
            continue  # only the place of the token is another
        say(f"trying the login at {login.path}" + (f" after a sign-up at {login.sign_up}" if login.sign_up else ""))
        write_whole(file, login_benchmarks(routes, login))
        answers, error, cause = _answers(project)
        if good := [one for one in routes if answers.get(_id(one)) == 200]:
            left_out = {one: answers.get(_id(one), 0) for one in routes if one not in good}
            write_whole(file, login_benchmarks(good, login, left_out))
            for one, status in left_out.items():
                say(f"  left out: GET {one} answered {status or 'nothing'}")
            return
        said = ", ".join(f"GET {one} {status}" for one, status in answers.items())
        failed.append((login, error or f"No route answered 200 to this user: {said}."))
        say("\n".join(f"  {line}" for line in (failed[-1][1], cause) if line))
    write_whole(file, login_to_write(routes, tried.routes, failed))
    say(f"no login worked: write it in {SUITE}/{LOGIN_FILE}, which says what was tried")


def _answers(project: Project) -> tuple[dict[str, int], str, str]:
    """Run the readiness tests of the file.

    Return the status of each route; or the error of the login, and the last error in the application's output.
    """
    try:
        record = measure(project, "ci", [f"{SUITE}/{LOGIN_FILE}", "-m", "readiness"], quiet=True)
    except CommandError as error:
        return {}, str(error), ""
    answers = {found[1]: _status(test) for test in record.tests if (found := READINESS.search(test.key))}
    if any(answers.values()):
        return answers, "", next((cause_of(test) for test in record.tests if _status(test) >= 500), "")
    errors = ((_error(test), cause_of(test)) for test in record.tests)
    return {}, *next(errors, ("it was not tried", ""))


def _id(route: str) -> str:
    """Return a route as pytest writes it in the name of a test."""
    return route.encode("unicode_escape").decode("ascii")


def _status(test: TestOutcome) -> int:
    found = STATUS.search(test.message)
    return 200 if test.outcome == "passed" else int(found[1]) if found else 0


def cause_of(test: TestOutcome) -> str:
    """Return the last error in the output of the application during a test."""
    output = test.message.partition("\noutput of ")[2].replace("\\n", "\n")  # JSON has a traceback on one line
    return str(next(reversed(OUTPUT_ERROR.findall(output)), "")).partition('",')[0][:MOST_SHOWN]


def _error(test: TestOutcome) -> str:
    lines = ERROR.findall(test.message) or test.message.splitlines()[:1] or [""]
    return str(lines[-1])[:MOST_SHOWN]
