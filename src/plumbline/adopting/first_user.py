"""A first user of a Django project, whom `prepare` writes."""

from collections.abc import Mapping

from msgspec.structs import replace

from plumbline.adopting.findings import Findings, FoundCommand, FoundVariable
from plumbline.adopting.made_up import EMAIL, NAME, PASSWORD
from plumbline.adopting.proposal import FIRST_USER
from plumbline.adopting.starters import refused_routes
from plumbline.adopting.tried import Tried

# `createsuperuser --noinput` reads them.
VARIABLES = {
    "DJANGO_SUPERUSER_USERNAME": NAME,
    "DJANGO_SUPERUSER_EMAIL": EMAIL,
    "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
}


def with_user(findings: Findings, tried: Tried, env: Mapping[str, str]) -> Findings:
    """Return the findings with the command that writes a user, if routes want a login and none has worked.

    `env`: what settings.toml has under [env] so far.
    """
    migrations = [one for one in findings.prepare if one.name == "django"]
    known = [*env, *(word for one in findings.prepare for word in one.command)]
    is_known = any(name in known for name in (FIRST_USER, *VARIABLES))
    if not migrations or is_known or tried.failed or tried.login or not refused_routes(tried.answers):
        return findings
    seen = "routes want a login: this command of Django writes a user"
    words: tuple[str, ...] = ("python", "manage.py", FIRST_USER, "--noinput")
    if tried.sqlite:  # the file keeps the user for later runs
        words = ("sh", "-c", f"{' '.join(words)} || true")
    command = FoundCommand(FIRST_USER, words, seen, migrations[0].directory)
    names = {one.name for one in findings.variables}
    added = [FoundVariable(name, text, False, seen) for name, text in VARIABLES.items() if name not in names]
    return replace(findings, prepare=(*findings.prepare, command), variables=(*findings.variables, *added))


def with_failed_logins(tried: Tried, other: Tried) -> Tried:
    """Return the result of a trial with the logins of another trial, none of which worked."""
    failed = (*tried.failed_logins, *other.failed_logins)
    return replace(tried, logins=(*tried.logins, *other.logins), failed_logins=failed)
