"""`plumbline init` writes a login that works, or says what was tried."""

import ast

import pytest

from tests.integration.test_init import begun, init
from tests.support.project import Project

__all__ = ["begun"]  # a fixture

PROJECT = '[project]\nname = "shop"\nversion = "1.0"\ndependencies = ["fastapi", "python-multipart"]\n'
SHOP = """\
import os
import secrets
from typing import Annotated

from fastapi import Depends, FastAPI, Form, HTTPException, Response
from fastapi.security import HTTPBasic, OAuth2PasswordBearer, OAuth2PasswordRequestForm
from pydantic import BaseModel

app = FastAPI()
USERS, TOKENS = {os.environ.get("ADMIN_EMAIL"): os.environ.get("ADMIN_PASSWORD")}, {}


class User(BaseModel):
    email: str
    password: str


def log_in(email: str, password: str) -> dict[str, str]:
    if USERS.get(email) != password:
        raise HTTPException(401, "wrong password")
    token = secrets.token_hex()
    TOKENS[token] = email
    return {"access_token": token}


async def user(token: Annotated[str, Depends(OAuth2PasswordBearer("/login"))]) -> str:
    if token not in TOKENS:
        raise HTTPException(401)
    return TOKENS[token]


@app.get("/up")
async def up():
    return {}


@app.get("/me")
async def me(email: Annotated[str, Depends(user)]):
    return {"email": email}


@app.get("/reports")
async def reports(email: Annotated[str, Depends(user)]):
    raise HTTPException(403)


"""
SIGN_UP = """\
@app.post("/signup", status_code=201)
async def sign_up(new: User):
    if new.email in USERS:
        raise HTTPException(409)
    USERS[new.email] = new.password


"""
FORM = """\
@app.post("/login")
async def login(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> dict[str, str]:
    return log_in(form.username, form.password)
"""
JSON = """\
@app.post("/login")
async def login(data: User):
    return {"token": log_in(data.email, data.password)["access_token"]}
"""
FAILING = """\
@app.post("/login")
async def login(data: User):
    raise HTTPException(403, "confirm your email first")
"""
NO_POSTS = """\

@app.middleware("http")
async def refuse_posts(request, call_next):
    if request.method == "POST":
        os._exit(1)
    return await call_next(request)
"""
WITHOUT_DATA = """\
[redis]
backend = "off"

[postgres]
backend = "off"

[profiles.ci]
samples = 10
warmup = 2
timed_limit_s = 0.02

"""
EMAIL, ADMIN_PASSWORD = "ada@example.com", "hunter2-of-ada"


def routes_of(text: str) -> list[str]:
    assigned = {ast.unparse(one.targets[0]): one.value for one in ast.parse(text).body if isinstance(one, ast.Assign)}
    routes: list[str] = ast.literal_eval(assigned["ROUTES"])
    return routes


def test_oauth2_after_a_sign_up(begun: Project) -> None:
    """A user signs up and logs in. Routes that do not answer this user are left out."""
    begun.write("settings.toml", WITHOUT_DATA)
    done = init(begun, {"pyproject.toml": PROJECT, "main.py": SHOP + SIGN_UP + FORM}, "--yes", "--log-in")

    assert done.code == 0, done.output
    text = (begun.suite / "test_logged_in.py").read_text(encoding="utf-8")
    assert begun.verdicts() == {"test_routes.py::test_get[/up]": "new", "test_logged_in.py::test_get[/me]": "new"}
    assert "left out: GET /reports answered 403" in done.output
    assert '+    # "/reports" answered 403' in done.output  # all that is written was shown before
    assert '    # "/reports" answered 403\n]' in text

    (begun.root / "main.py").write_text(SHOP + SIGN_UP + FAILING, encoding="utf-8")
    assert init(begun, {}, "--yes").code == 1  # a login that has worked once has to work
    assert (begun.suite / "test_logged_in.py").read_text(encoding="utf-8") == text


@pytest.mark.slow
def test_json_of_a_user_in_variables(begun: Project) -> None:
    """The file has no password. The place of the token is tried, as no schema says it."""
    env = f'[env]\nADMIN_EMAIL = "{EMAIL}"\nADMIN_PASSWORD = "{ADMIN_PASSWORD}"\n'
    begun.write("settings.toml", WITHOUT_DATA + env)
    done = init(begun, {"pyproject.toml": PROJECT, "main.py": SHOP + JSON}, "--yes", "--log-in")

    assert done.code == 0, done.output
    text = (begun.suite / "test_logged_in.py").read_text(encoding="utf-8")
    assert routes_of(text) == ["/me"]
    assert 'os.environ["ADMIN_PASSWORD"]' in text
    assert 'response.json()["token"]' in text
    assert ADMIN_PASSWORD not in text


def test_a_login_that_does_not_work(begun: Project) -> None:
    """It is skipped, and says what was sent and answered. Without `--log-in`, no request is a POST."""
    begun.write("settings.toml", WITHOUT_DATA)
    done = init(begun, {"pyproject.toml": PROJECT, "main.py": SHOP + SIGN_UP + FAILING}, "--yes", "--log-in")

    assert done.code == 0, done.output
    text = (begun.suite / "test_logged_in.py").read_text(encoding="utf-8")
    assert "no login worked: write it in tests/performance/test_logged_in.py" in done.output
    comment = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("# "))
    assert "`init` tried: POST /signup json={'email': 'plumbline@example.com'" in comment
    assert "sign-up: <Response [" in comment
    assert 'login: <Response [403 Forbidden]> \'{"detail":"confirm your email first"}\'' in comment
    assert routes_of(text) == ["/me", "/reports"]
    assert {test["outcome"] for test in begun.results()["tests"] if "test_logged_in" in test["key"]} == {"skipped"}

    done = init(begun, {"main.py": f"{SHOP}{SIGN_UP}{JSON}{NO_POSTS}"}, "--yes")
    assert (done.code, "-s init -- --log-in` tries to sign up" in done.output) == (0, True), done.output
    assert (begun.suite / "test_logged_in.py").read_text(encoding="utf-8") == text


FLASK = """\
import secrets

from flask import Flask, abort, redirect, request, session

app = Flask("shop")
app.secret_key = secrets.token_hex()
app.config["SESSION_COOKIE_SECURE"] = True
USERS = {}
FORM = '''<form method="get"><input name="search"></form>
<form method="post"><input name="csrf_token" type="hidden" value="{}">
<input name="username"><input name="password" type="password"><input type="submit"></form>'''


def form():
    if request.method == "GET":
        session["csrf"] = secrets.token_hex()
        return None
    if request.form["csrf_token"] != session.get("csrf"):
        abort(400)
    return request.form["username"], request.form["password"]


@app.route("/join/register", methods=["GET", "POST"])
def register():
    if (user := form()) is None:
        return FORM.format(session["csrf"])
    USERS[user[0]] = user[1]
    return redirect("/welcome")


@app.route("/welcome", methods=["GET", "POST"])
def welcome():
    if (user := form()) is None:
        return FORM.format(session["csrf"])
    if USERS.get(user[0]) != user[1]:
        return FORM.format(session["csrf"])
    session["user"] = user[0]
    return redirect("/orders")


@app.get("/orders")
def orders():
    return session["user"] if "user" in session else redirect("/welcome?next=/orders")


@app.route("/orders/create", methods=["GET", "POST"])
def create():
    return session["user"] if "user" in session else redirect("/welcome?next=/orders/create")
"""


def test_forms(begun: Project) -> None:
    """A user signs up and logs in at forms with a hidden field that is new on each page, and a cookie for HTTPS."""
    begun.write("settings.toml", WITHOUT_DATA)
    files = {"requirements.txt": "flask\ngunicorn\n", "shop.py": FLASK}
    done = init(begun, files, "--yes", "--log-in")

    assert done.code == 0, done.output
    assert "GET /orders  302: wants a login" in done.output
    assert "the login at /welcome after a sign-up at /join/register works" in done.output
    text = (begun.suite / "test_logged_in.py").read_text(encoding="utf-8")
    assert routes_of(text) == ["/orders", "/orders/create"]
    assert begun.verdicts()["test_logged_in.py::test_get[/orders]"] == "new"


DJANGO = {
    "requirements.txt": "django\ngunicorn\n",
    "manage.py": """\
import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
execute_from_command_line(sys.argv)
""",
    "shop/__init__.py": "",
    "shop/settings.py": """\
import os

SECRET_KEY = "of-a-test"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "shop"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("DATABASE", "db.sqlite3")}}
""",
    "shop/templates/registration/login.html": '<form method="post">{% csrf_token %}{{ form }}</form>',
    "shop/urls.py": """\
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.urls import include, path

urlpatterns = [
    path("accounts/", include("django.contrib.auth.urls")),
    path("open/", lambda request: HttpResponse("open")),
    path("orders/", login_required(lambda request: HttpResponse(request.user.username))),
]
""",
    "shop/wsgi.py": """\
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
application = get_wsgi_application()
""",
}


def test_a_user_of_django(begun: Project) -> None:
    """`prepare` writes a user if routes want a login and nobody can sign up."""
    begun.write("settings.toml", WITHOUT_DATA)
    done = init(begun, DJANGO, "--yes", "--log-in")
    assert done.code == 0, done.output
    assert "createsuperuser" in (begun.suite / "settings.toml").read_text(encoding="utf-8")
    assert "the login at /accounts/login/ works" in done.output
    assert "/orders/" in routes_of((begun.suite / "test_logged_in.py").read_text(encoding="utf-8"))
