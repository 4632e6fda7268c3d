"""Ask whether `plumbline init` may log in to the application, and describe the login in its output."""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence

from plumbline.adopting.login_benchmarks import LOGIN_FILE
from plumbline.adopting.starters import has_no_login, refused_routes
from plumbline.adopting.trial import MayLogIn
from plumbline.adopting.tried import Login, Route, Tried
from plumbline.commands.output import say
from plumbline.project import SUITE, nox_command

VARIABLE = re.compile(r'os\.environ\["(\w+)"\]')


def consent(existing: Mapping[str, str], agrees: Callable[[str], bool], *, log_in: bool, yes: bool) -> MayLogIn:
    """Return a function that says whether `init` may sign up and log in.

    `existing`: the test files of the suite. `agrees` asks the user. `log_in`, `yes`: whether the options are given.
    """

    def may_log_in(url: str, routes: Sequence[Route], possible: Sequence[Login]) -> bool:
        if not has_no_login(routes, existing):
            return False
        if log_in or yes or not sys.stdin.isatty():
            return log_in
        sent = "\n".join(f"  {one}" for one in requests_of(possible))
        where = f"the application that it has started at {url}"
        say(f"\nSome routes require a login. `init` can send these requests to {where}:\n{sent}")
        return agrees("Send them?")

    return may_log_in


def requests_of(possible: Sequence[Login]) -> list[str]:
    """Return the requests of some logins, a line each. Variables are shown by their name."""
    lines = []
    for one in possible:
        if one.sign_up:
            lines.append(f"POST {one.sign_up} {json.dumps(one.user)}")
        names = VARIABLE.findall(" ".join(one.fields.values()))
        lines.append(f"POST {one.path} {json.dumps(one.values({name: f'${name}' for name in names}))}")
    return [*dict.fromkeys(lines)]


def about_login(tried: Tried, existing: Mapping[str, str], *, log_in: bool = False) -> list[str]:
    """Return what happened at the logins, or how to allow them.

    `existing`: the test files as they will be. `log_in`: whether the option is given.
    """
    lines = []
    for failed in tried.failed_logins:
        after = f" after a sign-up at {failed.login.sign_up}" if failed.login.sign_up else ""
        lines.append(f"the login at {failed.login.path}{after} did not work:")
        lines += [f"  {line}" for line in (failed.error, failed.cause) if line]
    if one := tried.login:
        lines.append(f"the login at {one.path}{f' after a sign-up at {one.sign_up}' if one.sign_up else ''} works")
        left_out = [answer for answer in tried.logged_in if answer.status != 200]
        lines += [f"  left out: GET {one.route.path} answered {one.status or one.error}" for one in left_out]
    elif tried.failed_logins:
        lines.append(f"no login worked: write it in {SUITE}/{LOGIN_FILE}, which says what was tried")
    elif tried.logins and has_no_login(tried.routes, existing):
        lines.append(
            f"routes that require a login are not measured: `{nox_command()} -s init -- --log-in` tries to sign up and"
            f" log in on the run's own servers"
        )
    elif log_in and not refused_routes(tried.answers):
        lines.append("no login was tried: no route requires one")
    elif log_in and not tried.logins and has_no_login(tried.routes, existing):
        lines.append(f"no route was found that logs a user in: write the login in {SUITE}/{LOGIN_FILE}")
    return lines
