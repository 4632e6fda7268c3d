"""The login of an application, from its OpenAPI document and its variables."""

from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.security import HTTPBasic, HTTPBasicCredentials, OAuth2PasswordBearer, OAuth2PasswordRequestForm
from pydantic import BaseModel, Field

from plumbline.adopting.logins import login_route, logins
from plumbline.adopting.routes import routes_in
from plumbline.adopting.tried import Login, Route

PASSWORD = "Plumbline-1-benchmark"
ADA = {"email": "plumbline@example.com", "password": PASSWORD}


class Token(BaseModel):
    access_token: str
    token_type: str


class NewUser(BaseModel):
    email: str = Field(json_schema_extra={"format": "email"})
    password: str = Field(min_length=8, max_length=40)
    full_name: str | None = None


def routes_of(app: FastAPI, prefix: str = "") -> list[Route]:
    return [*routes_in(app.openapi(), prefix)]


def of_document(login: dict[str, Any], sign_up: dict[str, Any], **rest: Any) -> list[Login]:
    """Return the logins of a document with the routes POST /login and POST /users."""
    document = {"paths": {"/login": {"post": login}, "/users": {"post": sign_up}}, **rest}
    return logins([*routes_in(document)], {}, [])


def json_of(*required: str, **properties: dict[str, Any]) -> dict[str, Any]:
    """Return an operation that takes JSON with these fields. Those without a schema are strings."""
    fields = {**{name: {"type": "string"} for name in required}, **properties}
    schema = {"type": "object", "required": [*required], "properties": fields}
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


def test_oauth2_after_a_sign_up() -> None:
    """The route is the one that the security scheme names. Routes of administrators are no sign-up."""
    app, scheme = FastAPI(), OAuth2PasswordBearer(tokenUrl="/api/session")
    router = APIRouter(prefix="/api")

    @router.post("/refresh-token", response_model=Token)
    async def refresh() -> None: ...

    @router.post("/session", response_model=Token)
    async def session(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> None: ...

    @router.post("/users", dependencies=[Depends(scheme)])
    async def add(user: NewUser) -> None: ...

    @router.post("/users/signup")
    async def sign_up(user: NewUser) -> None: ...

    app.include_router(router)

    assert logins(routes_of(app), {}, []) == [
        Login(
            path="/api/session",
            how="data",
            fields={"username": 'USER["email"]', "password": 'USER["password"]'},
            sign_up="/api/users/signup",
            user=ADA,
        )
    ]
    assert logins(routes_of(app, "/mounted"), {}, [])[0].path == "/mounted/api/session"


def test_basic_authentication() -> None:
    app = FastAPI()

    @app.post("/tokens", response_model=Token)
    async def tokens(credentials: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]) -> None: ...

    @app.post("/users")
    async def add(user: NewUser) -> None: ...

    [found] = logins(routes_of(app), {}, [])
    assert (found.path, found.how) == ("/tokens", "auth")
    assert found.fields == {"name": 'USER["email"]', "password": 'USER["password"]'}


def test_a_name_or_an_email() -> None:
    """A user with both logs in with either: a field `username` may take both."""
    login, sign_up = json_of("username", "password"), json_of("email", "username", "password")
    answer: dict[str, Any] = {"content": {"application/json": {"schema": {"properties": {"token": {}}}}}}
    found = of_document({**login, "responses": {"200": answer}}, sign_up)
    assert [(one.fields["username"], one.token) for one in found] == [
        ('USER["username"]', ("token",)),
        ('USER["email"]', ("token",)),
    ]
    [found_by_email] = of_document(json_of("email", "password") | {"responses": {"200": answer}}, json_of(*ADA))
    assert found_by_email.fields == {"email": 'USER["email"]', "password": 'USER["password"]'}


@pytest.mark.parametrize(
    ("responses", "places"),
    [
        ({"200": {"properties": {"accessToken": {}, "refresh_token": {}}}}, [("accessToken",)]),
        ({"201": {"properties": {"data": {"properties": {"token": {}}}}}}, [("data", "token")]),
        ({"200": {"properties": {"message": {"type": "string"}}}}, [()]),
        ({"204": None}, [()]),
        ({"200": {}}, [("access_token",), ("token",), ()]),
    ],
    ids=["camel case", "nested", "cookie", "no content", "not documented"],
)
def test_the_place_of_the_token(responses: dict[str, Any], places: list[tuple[str, ...]]) -> None:
    content = {
        status: {} if schema is None else {"content": {"application/json": {"schema": schema}}}
        for status, schema in responses.items()
    }
    found = of_document(json_of(*ADA) | {"responses": content}, json_of(*ADA))
    assert [one.token for one in found] == places


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ({"type": "string", "examples": ["Ada"]}, "Ada"),
        ({"type": "string", "maxLength": 4}, "plum"),
        ({"type": "string", "minLength": 12}, "plumblinexxx"),
        ({"type": "string", "enum": ["member", "guest"]}, "member"),
        ({"type": "string", "format": "date"}, "2000-01-01"),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, 1),
        ({"type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}}}, {"ok": True}),
    ],
)
def test_fields_of_a_sign_up(field: dict[str, Any], value: Any) -> None:
    found = of_document(json_of(*ADA), json_of(*ADA, "other", other=field))
    assert found[0].user == {**ADA, "other": value}


def test_examples_that_the_schema_wants() -> None:
    name = {"type": "string", "pattern": "^[A-Z]{3}$", "examples": ["ADA"]}
    found = of_document(json_of("username", "password"), json_of("username", "password", username=name))
    assert found[0].user == {"username": "ADA", "password": PASSWORD}


@pytest.mark.parametrize(
    "sign_up",
    [
        json_of(*ADA, "code", code={"type": "string", "pattern": "^[0-9]{6}$"}),
        json_of("email", "name"),
        json_of(*ADA) | {"security": [{"bearer": []}]},
        {"requestBody": "nonsense"},
    ],
    ids=["not to make up", "no password", "for administrators", "malformed"],
)
def test_no_sign_up(sign_up: dict[str, Any]) -> None:
    assert of_document(json_of(*ADA), sign_up) == []


def test_security_of_the_whole_document() -> None:
    """It may leave out a route such as /signup, but hardly /users."""
    body, security = json_of(*ADA), [{"bearer": list[str]()}]
    assert of_document(body, body, security=security) == []
    paths = {"/login": {"post": body}, "/signup": {"post": body}}
    found = logins([*routes_in({"paths": paths, "security": security})], {}, [])
    assert {one.sign_up for one in found} == {"/signup"}


def test_a_first_user_in_variables() -> None:
    """If `prepare` writes a first user, that one is tried before a sign-up."""
    body = json_of(*ADA) | {"responses": {"200": {"content": {"application/json": {"schema": {"$ref": "#/token"}}}}}}
    document = {"paths": {"/login": {"post": body}, "/signup": {"post": body}}, "token": {"properties": {"token": {}}}}
    env = {"FIRST_SUPERUSER": "a@example.com", "FIRST_SUPERUSER_PASSWORD": "x", "DB_USER_PASSWORD": "y", "DB_USER": "z"}
    routes = [*routes_in(document)]
    of_variables = {"email": 'os.environ["FIRST_SUPERUSER"]', "password": 'os.environ["FIRST_SUPERUSER_PASSWORD"]'}

    seeded = logins(routes, env, ["python", "app/initial_data.py"])
    unsure = logins(routes, env, ["alembic", "upgrade", "head"])

    assert (seeded[0].fields, seeded[0].sign_up, seeded[1].sign_up) == (of_variables, "", "/signup")
    assert [one.sign_up for one in unsure] == ["/signup", ""]
    named = {"ADMIN_EMAIL": "a", "ADMIN_USERNAME": "b", "ADMIN_PASSWORD": "c"}
    assert logins(routes, named, ["seed"])[0].fields["email"] == 'os.environ["ADMIN_EMAIL"]'
    assert [one.sign_up for one in logins(routes, {"ADMIN": "a", "ADMIN_PASSWORD": "{postgres.password}"}, [])] == [
        "/signup"
    ]


def test_the_likeliest_route_by_its_name() -> None:
    posts = [Route("POST", path) for path in ("/refresh-token", "/password/login-code", "/login")]
    assert login_route(posts) == posts[2]
    assert login_route(posts[:2]) is None
    assert logins(posts, {}, []) == []
