"""Find ways to log in to an application in its OpenAPI document and its settings."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from plumbline.adopting.made_up import MadeUp, is_email, is_password, is_user_name
from plumbline.adopting.tried import Login, Route

MOST_LOGINS = 4  # that `init` tries
LOGIN_NAMES = ("token", "jwt/login", "login", "jwt/create", "sign-in", "signin")
OTHER = re.compile(r"refresh|reset|forgot|recover|verif|revoke|logout|test|password", re.IGNORECASE)
SIGN_UP = re.compile(r"sign[-_]?up|regist\w*", re.IGNORECASE)
USERS = re.compile(r"users?|accounts?|customers?", re.IGNORECASE)
# Variables of a first user, such as FIRST_SUPERUSER_PASSWORD and FIRST_SUPERUSER.
PASSWORD_VARIABLE = re.compile(r"(\w*(?:SUPER_?USER|ADMIN|(?:FIRST|INITIAL|DEFAULT|SEED|DEMO)_\w*USER)\w*?)_PASSWORD")
OF_EMAIL, OF_NAME = ("_EMAIL", "_MAIL"), ("", "_USERNAME", "_USER_NAME", "_USER", "_LOGIN", "_NAME")
# Commands of `prepare` that write a first user.
SEEDS = re.compile(r"initial|seed|super_?user|admin|fixture|bootstrap|first|demo|loaddata", re.IGNORECASE)
OAUTH2 = MadeUp("data", {"username": "", "password": ""})
UNDOCUMENTED_TOKENS: tuple[tuple[str, ...], ...] = (("access_token",), ("token",), ())


def login_route(routes: Iterable[Route]) -> Route | None:
    """Return the route that takes a name and a password, or the likeliest one by its name."""
    posts = [one for one in routes if one.method == "POST" and not one.has_parameters]
    likely = [one for name in LOGIN_NAMES for one in posts if name in one.path and not OTHER.search(one.path)]
    documented = [one for one in likely if one.made_up or one.wants == "basic"]
    return next(iter([*(one for one in posts if one.is_token_url), *documented, *likely]), None)


def logins(routes: Sequence[Route], env: Mapping[str, str], prepare: Iterable[str]) -> list[Login]:
    """Return the logins to try, the likeliest first. `env`: that of the settings. `prepare`: words of its commands."""
    route = login_route(routes)
    if route is None:
        return []
    body = route.made_up or (OAUTH2 if route.is_token_url or route.wants == "basic" else None)
    if body is None:
        return []
    of_variables = [_login(route, body, chosen) for chosen in users_of_variables(env)]
    signed_up = [*_signed_up(route, body, routes)]
    found = seeded_first(of_variables, signed_up, prepare)
    tokens = UNDOCUMENTED_TOKENS if route.token is None else (route.token,)
    return [replace(one, token=token) for one in found for token in tokens][:MOST_LOGINS]


def seeded_first(of_variables: Iterable[Login], signed_up: Iterable[Login], prepare: Iterable[str]) -> list[Login]:
    """Return all logins, those of a user in variables first if `prepare` writes this user."""
    is_seeded = any(map(SEEDS.search, prepare))
    return [*of_variables, *signed_up] if is_seeded else [*signed_up, *of_variables]


def users_of_variables(env: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yield the sources of "name", "email" and "password" of users in variables of [env]."""
    for name in env:
        found = PASSWORD_VARIABLE.fullmatch(name)
        if found is None or "{" in env[name]:
            continue
        emails, names = ([found[1] + end for end in ends if found[1] + end in env] for ends in (OF_EMAIL, OF_NAME))
        sources = {one: f'os.environ["{one}"]' for one in (name, *emails, *names)}
        if emails or names:
            chosen = {"password": sources[name], "email": sources[(emails + names)[0]]}
            yield {**chosen, "name": sources[(names + emails)[0]]}


def users_who_sign_up(fields: Iterable[str], password: str) -> Iterator[dict[str, str]]:
    """Yield the same sources for a user who signs up with these fields. `password`: the field with the password."""
    sources = {name: f'USER["{name}"]' for name in fields}
    emails = [source for name, source in sources.items() if is_email(name)]
    names = [source for name, source in sources.items() if is_user_name(name)]
    for name in dict.fromkeys(names[:1] + emails[:1]):
        yield {"password": sources[password], "email": (emails + names)[0], "name": name}


def _signed_up(route: Route, body: MadeUp, routes: Iterable[Route]) -> Iterator[Login]:
    """Yield logins of a user who signs up before."""
    for one in sorted(routes, key=lambda one: SIGN_UP.search(one.path) is None):
        if one.method != "POST" or one.has_parameters or one.made_up is None or one.path == route.path:
            continue
        last = one.path.rstrip("/").rpartition("/")[2]
        is_open = one.wants == "" or (one.wants == "perhaps" and SIGN_UP.search(one.path))
        if not is_open or not (SIGN_UP.search(one.path) or USERS.fullmatch(last)):
            continue
        user = one.made_up.values
        for chosen in users_who_sign_up(user, next(filter(is_password, user))):
            login = _login(route, body, chosen)
            yield replace(login, sign_up=one.path, sign_up_how=one.made_up.how, user=user)


def _login(route: Route, body: MadeUp, chosen: Mapping[str, str]) -> Login:
    """Return a login with the sources `chosen` for "name", "email" and "password"."""
    if route.wants == "basic":
        return Login(route.path, "auth", {"name": chosen["name"], "password": chosen["password"]})
    return login_at(route.path, body, chosen)


def login_at(path: str, body: MadeUp, chosen: Mapping[str, str]) -> Login:
    """Return a login that sends a body with the sources `chosen` for "name", "email" and "password"."""
    fields = {}
    for name, value in body.values.items():
        kind = "password" if is_password(name) else "email" if is_email(name) else "name" if is_user_name(name) else ""
        fields[name] = chosen[kind] if kind and value != "password" else repr(value)
    return Login(path, body.how, fields)
