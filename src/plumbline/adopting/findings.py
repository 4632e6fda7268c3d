"""Findings of `plumbline init` in the files of a repository, each with the place where it was seen."""

from typing import Literal

from msgspec import Struct

Kind = Literal["asgi", "wsgi", "command"]


class FoundApplication(Struct, frozen=True):
    """An application that Plumbline could serve."""

    kind: Kind
    target: str  # `package.module:attribute`; "" for a command
    directory: str  # the folder that imports start from, from the root of the project
    framework: str  # "fastapi", "starlette", "litestar", "django", "flask" or ""
    seen: str  # such as "src/shop/main.py:12: app = FastAPI("
    factory: bool = False
    command: tuple[str, ...] = ()


class FoundCommand(Struct, frozen=True):
    """A command that prepares the database, or runs beside the application."""

    name: str  # of a process: the name of its table; of a migration: its tool, such as "alembic"
    command: tuple[str, ...]
    seen: str
    directory: str = "."
    ready_output: str = ""
    needs: str = ""  # the server that a worker can't start without, such as "rabbitmq"; "broker" if it is unknown


class FoundVariable(Struct, frozen=True):
    """An environment variable that the application reads."""

    name: str
    template: str  # for [env], such as "{postgres.host}"; a value of .env.example; "" if no value is known
    required: bool  # whether the application does not start without it
    seen: str


class FoundService(Struct, frozen=True):
    """A server other than Redis and PostgreSQL, as a table [services.NAME]."""

    name: str
    image: str = ""
    port: int = 0
    seen: str = ""
    ready: str = ""
    env: dict[str, str] = {}
    command: tuple[str, ...] = ()


class FoundInstall(Struct, frozen=True):
    """The settings for installing the project."""

    python: str = ""  # as `python` in settings.toml, if .python-version and requires-python do not say it
    lock: str = ""  # the file whose versions are installed, such as "uv.lock"
    application: Literal["auto", "dependencies", "off"] = "auto"
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    seen: str = ""  # of the others
    folder: str = "."  # of pyproject.toml or requirements.txt; if it is another, the suite belongs into that folder
    python_seen: str = ""


class Findings(Struct, frozen=True):
    """All findings in a project. The likeliest of several come first."""

    applications: tuple[FoundApplication, ...] = ()
    install: FoundInstall = FoundInstall()
    prepare: tuple[FoundCommand, ...] = ()  # in the order in which to run them
    sql: tuple[str, ...] = ()  # files of SQL, if there are no other migrations
    processes: tuple[FoundCommand, ...] = ()
    variables: tuple[FoundVariable, ...] = ()
    services: dict[str, str] = {}  # of "redis" and "postgres", those that the project uses: where that was seen
    health_paths: tuple[str, ...] = ()  # candidates for health_path
    stack: tuple[FoundService, ...] = ()  # other servers, such as RabbitMQ and MySQL
    no_docker: str = ""  # why no container can be started here
    redis_password: bool = True  # whether the variables take a password for Redis
    redis_database: bool = True  # whether the variables take a number of Redis's database
