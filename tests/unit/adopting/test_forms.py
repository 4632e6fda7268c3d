"""Forms of pages that take a password."""

import pytest

from plumbline.adopting.forms import Form, form_in
from plumbline.adopting.tried import Answer, Route

SECRET = '<input type="password" name="password">'


def test_a_form() -> None:
    """Fields that a browser would not send are left out."""
    page = f"""
        <form method="post" action="/search"><input name="q"></form>
        <form METHOD=POST action="enter?next=/">
          <input type="hidden" name="csrf_token" value="1"><input type="hidden" name="kind" value="web">
          <input name="login"><input name="mail">{SECRET}<input type="checkbox" name="remember">
          <input type="checkbox" name="terms" required><input type="submit" name="go" value="Go">
        </form>
        """

    assert form_in(page, "/accounts/login") == Form(
        page="/accounts/login",
        action="/accounts/enter?next=/",
        values={
            "kind": "web",
            "login": "plumbline",
            "mail": "plumbline@example.com",
            "password": "Plumbline-1-benchmark",
            "terms": "on",
        },
        fresh="csrf_token",
    )


@pytest.mark.parametrize("page", ["", f"<form>{SECRET}</form>", f"{SECRET}", "<form method=post><input name=q></form>"])
def test_no_form(page: str) -> None:
    assert form_in(page, "/") is None


@pytest.mark.parametrize(
    ("status", "location", "wants_login"),
    [
        (302, "/accounts/login/?next=/orders", True),
        (307, "https://shop.example.com/sign-in", True),
        (302, "/?next=%2Forders", True),
        (302, "/orders/", False),
        (301, "/login", False),
        (302, "/blogging", False),
        (302, "/orders?next=/", False),  # the route itself
        (401, "", True),
    ],
)
def test_a_redirect_to_a_login(status: int, location: str, wants_login: bool) -> None:
    assert Answer(Route("GET", "/orders"), status, 0.1, location=location).wants_login is wants_login
