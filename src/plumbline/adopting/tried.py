"""Evidence for `init` and `doctor`: observations of an application that ran on the servers of a run."""

import ast
import re
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from msgspec import Struct

from plumbline.adopting.made_up import MadeUp

Stage = Literal["settings", "install", "servers", "prepare", "application", "answers"]

SLOW_S = 1.5  # a benchmark of a slower request would not end within the time limit of a test
# In the paths of pages that log a user in, and in the address of a redirect to one.
LOGIN_PAGE = re.compile(r"(?:^|[/_.-])(?:log[-_]?in|sign[-_]?in)(?![a-z])", re.IGNORECASE)
COMES_BACK = re.compile(r"(?:^|&)(?:next|return\w*|redirect\w*|r)=", re.IGNORECASE)
Wants = Literal["", "basic", "login", "perhaps"]


class Route(Struct, frozen=True):
    """A route of the application, from its OpenAPI document or its framework."""

    method: str
    path: str  # such as "/items/{item_id}"
    has_parameters: bool = False  # in its path, or required ones in its query or headers
    body: Any = None  # an example of the body that the schema documents; None if there is none
    name: str = ""  # of its function, if known
    made_up: MadeUp | None = None  # a body with a password, if it takes one
    wants: Wants = ""  # the login that its document says it needs
    token: tuple[str, ...] | None = None  # the place of a token in its answer; () if it has none, None if unknown
    is_token_url: bool = False  # whether OAuth2 gets its tokens there
    is_documented: bool = False  # whether an OpenAPI document has it


class Answer(Struct, frozen=True):
    """The answer to one request."""

    route: Route
    status: int  # 0 if there was none
    seconds: float
    error: str = ""
    location: str = ""  # the address of a redirect
    has_empty_list: bool = False  # whether its JSON is or contains an empty list

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def location_path(self) -> str:
        return urlsplit(self.location).path or "/"

    @property
    def wants_login(self) -> bool:
        """Return whether the route refuses a user who is not logged in, or sends this user to a login."""
        if self.location and self.location_path != self.route.path:
            leads = LOGIN_PAGE.search(self.location_path) or COMES_BACK.search(urlsplit(self.location).query)
            return self.status in (302, 303, 307) and leads is not None
        return self.status in (401, 403)

    @property
    def is_slow(self) -> bool:
        return self.seconds > SLOW_S


class Login(Struct, frozen=True):
    """Requests that log a user in."""

    path: str
    how: Literal["json", "data", "auth"]  # the argument of httpx
    fields: dict[str, str]  # of the body: the Python source of each value
    token: tuple[str, ...] = ("access_token",)  # its place in the answer; () for a cookie
    sign_up: str = ""  # the path at which the user signs up; "" if `prepare` writes the user
    sign_up_how: Literal["json", "data"] = "json"
    user: dict[str, Any] = {}  # the body of the sign-up
    page: str = ""  # that has the form of the login, if it has one
    fresh: str = ""  # the hidden field of this form whose value is new on each page
    sign_up_page: str = ""
    sign_up_fresh: str = ""
    has_secure_cookies: bool = False  # clients send them only over HTTPS

    def values(self, environ: Mapping[str, str]) -> dict[str, Any]:
        """Return the values of the fields."""
        known = {f'os.environ["{name}"]': text for name, text in environ.items()}
        known |= {f'USER["{name}"]': value for name, value in self.user.items()}
        return {
            name: known[source] if source in known else ast.literal_eval(source) for name, source in self.fields.items()
        }


class FailedLogin(Struct, frozen=True):
    """A login that did not work."""

    login: Login
    error: str
    cause: str = ""  # in the output of the application


class ReadVariable(Struct, frozen=True):
    """An environment variable that the application's settings read."""

    name: str
    set_by: Literal["env", "environment", ".env", "default", ""]  # "": it is missing
    required: bool
    seen: str = ""  # such as "shop.settings.Settings.database_url"
    file: str = ""  # the .env file that sets it


class Tried(Struct, frozen=True):
    """The result of trying to start an application with its settings."""

    failed: Stage | None = None  # the stage that failed; None if all went well
    message: str = ""  # the whole message of the failure
    missing_variables: tuple[str, ...] = ()  # that the failure names
    servers: tuple[str, ...] = ()  # such as "redis: embedded Valkey 9.1.2"
    skipped: dict[str, str] = {}  # why a server or the application was not started
    touched: dict[str, tuple[str, ...]] = {}  # by process: the run's servers that it connected to
    variables: tuple[ReadVariable, ...] = ()
    left_empty: tuple[str, ...] = ()  # lines of plumbline.seed about tables without rows
    sqlite: tuple[str, ...] = ()  # files of SQLite in the project that were opened and that [env] does not name
    health_path: str = ""  # the first candidate that answered with 200
    routes: tuple[Route, ...] = ()
    answers: tuple[Answer, ...] = ()
    logins: tuple[Login, ...] = ()  # that may work, if routes want one
    login: Login | None = None  # the first that worked
    logged_in: tuple[Answer, ...] = ()  # those to its user
    failed_logins: tuple[FailedLogin, ...] = ()
    left_out: tuple[Route, ...] = ()  # GET routes that were not requested, as they may change something, or are many
