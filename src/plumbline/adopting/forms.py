"""Find ways to log in at a form of an HTML page, for applications that keep a session in a cookie."""

import re
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from plumbline.adopting.asking import Asker
from plumbline.adopting.logins import (
    MOST_LOGINS,
    SIGN_UP,
    login_at,
    seeded_first,
    users_of_variables,
    users_who_sign_up,
)
from plumbline.adopting.made_up import EMAIL, NAME, PASSWORD, MadeUp, is_email
from plumbline.adopting.tried import LOGIN_PAGE, Answer, Login, Route

MOST_PAGES = 4
# Hidden fields whose value is new on each page.
FRESH = re.compile(r"csrf|xsrf|token|nonce", re.IGNORECASE)
# A session of Django's admin is one of all its routes.
ADMIN = "/admin/login/"


class Form(Struct, frozen=True):
    """The form of a page that takes a password."""

    page: str
    action: str
    values: dict[str, str]  # the fields with their values, made up where the page has none
    fresh: str = ""  # the hidden field against forged requests


class _Forms(HTMLParser):
    """Collects the attributes of each form and those of its fields."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[dict[str, str], list[dict[str, str]]]] = []
        self._is_inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append((attributes, []))
            self._is_inside = True
        elif tag == "input" and self._is_inside and attributes.get("name"):
            self.found[-1][1].append(attributes)

    def handle_endtag(self, tag: str) -> None:
        self._is_inside = self._is_inside and tag != "form"


def fresh_value(name: str) -> str:
    """Return the regular expression that finds the value of a hidden field in a page."""
    return f'name="{re.escape(name)}"[^>]*value="([^"]*)"'


def form_in(html: str, page: str) -> Form | None:
    """Return the first form with a password that a page sends by POST."""
    parser = _Forms()
    parser.feed(html)
    for attributes, fields in parser.found:
        if attributes.get("method", "get").lower() != "post" or not any(map(_is_secret, fields)):
            continue
        action = urlsplit(urljoin(page, attributes.get("action", "")))
        path = f"{action.path}?{action.query}" if action.query else action.path
        fresh = next((one["name"] for one in fields if one.get("type") == "hidden" and FRESH.search(one["name"])), "")
        values = {one["name"]: value for one in fields if (value := _value(one)) is not None}
        return Form(page, path, {name: value for name, value in values.items() if name != fresh}, fresh)
    return None


def form_logins(
    asker: Asker, answers: Sequence[Answer], routes: Sequence[Route], env: Mapping[str, str], words: Sequence[str]
) -> list[Login]:
    """Return logins at the forms of an application, the likeliest first. `words`: those of `prepare`."""
    pages = [*dict.fromkeys(one.location_path for one in answers if one.wants_login and one.location)][:2]
    gets = [one.path for one in routes if one.method == "GET" and not one.has_parameters]
    pages += [ADMIN, *(path for path in gets if LOGIN_PAGE.search(path))]
    forms = [*_forms(asker, [*dict.fromkeys(pages)][:MOST_PAGES])]
    signs = [*_forms(asker, [path for path in gets if SIGN_UP.search(path)][:MOST_PAGES])]
    of_variables = [_login(form, chosen) for form in forms for chosen in users_of_variables(env)]
    signed_up = [login for form in forms for sign_up in signs for login in _signed_up(form, sign_up)]
    return seeded_first(of_variables, signed_up, words)[:MOST_LOGINS]


def _forms(asker: Asker, pages: Sequence[str]) -> Iterator[Form]:
    for page in pages:
        answer, content = asker.send(Route("GET", page), accept="text/html")
        if answer.is_success and (form := form_in(content.decode(errors="replace"), page)):
            yield form


def _signed_up(form: Form, sign_up: Form) -> Iterator[Login]:
    """Yield logins of a user who signs up before."""
    password = next((name for name, value in sign_up.values.items() if value == PASSWORD), "")
    if password and form.action != sign_up.action:
        for chosen in users_who_sign_up(sign_up.values, password):
            yield _login(form, chosen, sign_up)


def _login(form: Form, chosen: Mapping[str, str], sign_up: Form | None = None) -> Login:
    login = login_at(form.action, MadeUp("data", form.values), chosen)
    fields: dict[str, Any] = {"token": (), "page": form.page, "fresh": form.fresh}
    if sign_up:
        fields |= {"sign_up": sign_up.action, "sign_up_how": "data", "user": sign_up.values}
        fields |= {"sign_up_page": sign_up.page, "sign_up_fresh": sign_up.fresh}
    return replace(login, **fields)


def _is_secret(field: Mapping[str, str]) -> bool:
    return field.get("type", "").lower() == "password"


def _value(field: Mapping[str, str]) -> str | None:
    """Return the value of a field; None if a browser sends none."""
    name, kind, value = field["name"], field.get("type", "text").lower(), field.get("value", "")
    if kind == "checkbox":
        return (value or "on") if "required" in field or "checked" in field else None
    if kind in ("submit", "button", "image", "file", "reset", "radio"):
        return None
    if kind == "hidden" or value:
        return value
    return PASSWORD if _is_secret(field) else EMAIL if kind == "email" or is_email(name) else NAME
