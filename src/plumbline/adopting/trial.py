"""Runs an application once on the run's own servers, and returns what was seen: evidence for `init` and `doctor`."""

import contextlib
import json
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from plumbline.adopting.asking import Asker
from plumbline.adopting.files.sqlite import FOLDER
from plumbline.adopting.files.templates import MADE_UP
from plumbline.adopting.forms import form_logins
from plumbline.adopting.logging_in import LoggedIn, log_in
from plumbline.adopting.logins import logins
from plumbline.adopting.routes import PAGES, may_change_something, merge, routes_in
from plumbline.adopting.starters import MOST_ROUTES, refused_routes
from plumbline.adopting.tried import Answer, Login, ReadVariable, Route, Stage, Tried
from plumbline.adopting.variables import Sources, missing_variables, notes_in, read_variables
from plumbline.comparing.trees.application import application_python
from plumbline.processes import printable
from plumbline.project import SUITE_SETTINGS
from plumbline.seed import LEFT_EMPTY
from plumbline.services.application import PREPARE, Application, Process
from plumbline.services.at_start.plumbline_reads import PROTECTED
from plumbline.services.at_start.sitecustomize import LOOPBACK, READS, variables_of
from plumbline.services.base import output_lines
from plumbline.services.errors import NotReady, ServiceError
from plumbline.services.redaction import SECRET_OPTION, Secret, known_secrets, redactor, secrets_of
from plumbline.services.services import SERVERS, Services
from plumbline.settings import AppSettings, Settings

# Returns whether to log in to the application at a URL, by its routes and the logins that may work.
MayLogIn = Callable[[str, Sequence[Route], Sequence[Login]], bool]
LOOK = Path(__file__).parent / "in_application" / "plumbline_look.py"
LOOK_NAME = "look"
LOOK_LIMIT_S, LOOK_LIMIT_IF_HANGING_S, CONNECT_LIMIT_S = 60.0, 3.0, 1.0
NOTES, FOUND = ".reads", "look.json"  # files in the folder of the run
# The ends of the paths of OpenAPI documents.
DOCUMENTS = ("openapi.json", "swagger.json", "apispec.json", "openapi", "schema")
LOCAL = {LOOPBACK, "127.0.0.1", "::1", "0.0.0.0"}  # noqa: S104
MOST_NAMES, MANAGE = 3, "manage.py"
SECRET_NAME = re.compile(rf"{SECRET_OPTION.pattern}|key$", re.IGNORECASE)
MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(\(\))?")


def try_application(
    settings: Settings,
    root: Path,
    *,
    health_paths: Sequence[str] = (),
    python: str = "",
    ask: bool = True,
    examples: bool = False,
    look: bool = True,
    import_from: str = "",
    preferred: Mapping[str, str] = {},
    environ: Mapping[str, str] = os.environ,
    protected: Sequence[str] = (),
    may_log_in: MayLogIn = lambda *_: False,
) -> Tried:
    """Start the servers, `prepare`, the application and the processes, look at them, and stop everything.

    `health_paths`: candidates if `health_path` of the settings does not answer. If there are some, routes of the
    application are candidates, too. `python`: the Python of the application if it has its own environment; by default
    the settings name it. `ask`: whether to send GET requests to the application. `examples`: whether to send POST
    requests with the examples of its schema, too. `look`: whether to find its routes and settings by an import.
    `import_from`: more folders for PYTHONPATH. `preferred`: the backends that `auto` prefers. `protected`: SQLite
    files, relative to `root`, that Python processes may open only if the settings name them. `may_log_in`: whether to
    sign up and log in, if routes want a login.
    What the project can cause is returned as evidence, and never raised.
    """
    try:
        python = python or str(application_python(settings, root))
    except NotReady as error:
        return Tried(failed="install", message=str(error))
    try:
        trial = _Trial(settings, root, python, import_from, preferred, environ, protected)
    except (ServiceError, OSError) as error:
        return Tried(failed="settings", message=redactor(known_secrets(environ, settings))(str(error)))
    try:
        return trial.run(health_paths, may_log_in, ask=ask, examples=examples, look=look)
    finally:
        trial.services.stop()


class _Trial:
    """One run of an application, and what has been seen so far."""

    def __init__(
        self,
        settings: Settings,
        root: Path,
        python: str,
        import_from: str,
        preferred: Mapping[str, str],
        environ: Mapping[str, str],
        protected: Sequence[str],
    ) -> None:
        self._settings = settings
        self._protected = [os.path.realpath(root / one) for one in protected if not _is_named(Path(one), settings)]
        self._root = root
        self._environ = environ
        self._import_from = import_from
        self._folders = [str(root), *([str(root / settings.app.directory)] if settings.app else [])]
        self._names: list[str] = []  # of the processes that were started
        self.services = Services(
            settings,
            root,
            preferred=preferred,
            environ=environ,
            app_python=python,
            child_environ=self._child_environ,
        )
        self._scrub = redactor(known_secrets(environ, settings) | _secrets_beside(settings, self._folders, environ))

    def run(self, health_paths: Sequence[str], may_log_in: MayLogIn, *, ask: bool, examples: bool, look: bool) -> Tried:
        failed, message = self._start()
        app, found = self._application(), dict[str, Any]()
        health_path, answers, left_out = "", list[Answer](), list[Route]()
        possible, logged_in = list[Login](), LoggedIn()
        if look and (self.services.app is not None or failed == "prepare"):
            found = self._look()
        routes = merge(found.get("documents", ()), found.get("routes", ()))
        if app is not None:
            asker = Asker(app, self._root)
            if health_paths:  # the files may show none that answers
                health_paths = [*health_paths, *_paths_to_ask(routes)]
            health_path = asker.first_that_answers([_health_path(self._settings), *health_paths])
            if health_path and failed == "application" and self._only_health_path_failed():
                failed, message = None, ""
            if (look or ask) and not found.get("documents"):
                routes = self._with_documents(asker, routes)
            if ask:
                with self.services.watched():
                    answers, left_out = asker.ask(routes)
                    answers += asker.post_examples(routes) if examples else []
                    refused = refused_routes(answers)[:MOST_ROUTES]
                    if refused and not failed and app.running():
                        words = [word for command in self._settings.prepare_commands for word in command]
                        possible = logins(routes, self._settings.env, words)
                        possible += form_logins(asker, answers, routes, self._settings.env, words)
                        if possible and may_log_in(app.address.url, routes, possible):
                            logged_in = log_in(asker, possible, refused, self._settings.env)
            if not failed and not app.running():
                failed, message = "answers", self._died(app, [*answers, *logged_in.answers])
        failed, message = self._foreign(failed, message)
        notes = notes_in(self._notes(name) for name in self._names)
        if refused := sorted(self._shown(one["sqlite"]) for one in notes if one.get("refused")):
            failed, message = "settings", _refusal(refused[0])
        fields = found.get("settings", [])
        output = "\n".join(filter(None, [message, found.get("error", "")])) if failed else ""
        missing = (*found.get("missing", ()), *missing_variables(output, fields, notes)) if failed else ()
        return Tried(
            failed=failed,
            message=self._whole(failed, message, found, notes),
            missing_variables=tuple(dict.fromkeys(missing)),
            servers=self._servers(),
            skipped={name: self._scrub(why) for name, why in self.services.skipped.items()},
            touched=self._touched(),
            variables=self._variables(fields, notes, missing),
            left_empty=self._left_empty(),
            sqlite=self._sqlite(notes),
            health_path=health_path,
            routes=routes,
            answers=tuple(replace(one, error=self._scrub(one.error)) for one in answers),
            logins=tuple(possible),
            login=logged_in.login,
            logged_in=logged_in.answers,
            failed_logins=tuple(
                replace(one, error=self._scrub(one.error), cause=self._scrub(one.cause)) for one in logged_in.failed
            ),
            left_out=tuple(left_out),
        )

    def _start(self) -> tuple[Stage | None, str]:
        """Start everything. Return the stage that failed, and its message."""
        stage: Stage = "servers"
        try:
            self.services.begin()
            self.services.wait_ready()
            stage = "prepare"
            self.services.prepare()
            stage = "application"
            self.services.start_application()
        except ServiceError as error:
            return "settings", str(error)
        except NotReady as error:
            return stage, str(error)
        return None, ""

    def _application(self) -> Application | None:
        """Return the run's own application if it listens, ready or not."""
        app = self.services.app
        if not isinstance(app, Application) or not app.running():
            return None
        with contextlib.suppress(OSError):
            socket.create_connection((app.address.host, app.address.port), CONNECT_LIMIT_S).close()
            return app
        return None

    def _only_health_path_failed(self) -> bool:
        try:
            self.services.check_connections()
        except NotReady:
            return False
        others = [one for one in self.services.code_under_test() if one is not self.services.app]
        return all(one.ready_s is not None and one.running() for one in others)

    def _look(self) -> dict[str, Any]:
        """Import the application in a process beside it. Return what was found there, {} if it cannot be imported."""
        app = self._settings.app
        if app is None or not (target := target_of(app)):
            return {}
        file = self.services.directory / FOUND
        process = self.services.beside_application(_Look, LOOK_NAME, app)
        is_hanging = self._application() is None and self.services.app is not None and self.services.app.running()
        limit_s = LOOK_LIMIT_IF_HANGING_S if is_hanging else LOOK_LIMIT_S
        is_factory = app.factory or "--factory" in app.command
        process.arguments = [str(file), str(self._root), app.directory, target, str(int(is_factory)), f"{limit_s:g}"]
        with contextlib.suppress(NotReady, OSError):
            process.run_to_end(limit_s * 2)
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return found
        return {}

    def _with_documents(self, asker: Asker, routes: tuple[Route, ...]) -> tuple[Route, ...]:
        """Add the routes of OpenAPI documents that the application serves. The names are those of the framework."""
        names = {(one.method, one.path): one.name for one in routes}
        ends = [one.path for one in routes if one.path.rstrip("/").rpartition("/")[2] in DOCUMENTS]
        for path in ends if routes else ["/openapi.json"]:
            found = [one for one in routes_in(asker.document(path), names=names) if one.path != path]
            under = {path, *(one.path for one in found)} if found else set()
            rest = [one for one in routes if one.path not in under and not (found and PAGES.fullmatch(one.path))]
            routes = (*found, *rest)
        return routes

    def _foreign(self, failed: Stage | None, message: str) -> tuple[Stage | None, str]:
        """Check the connections once more: requests may have made new ones."""
        try:
            self.services.check_connections()
        except NotReady as error:
            return failed or "answers", message if failed else str(error)
        return failed, message

    def _died(self, app: Application, answers: Sequence[Answer]) -> str:
        last = f"{answers[-1].route.method} {answers[-1].route.path}" if answers else "a GET request"
        advice = f"  next        correct its code, or what it needs in `prepare` or [env] of {SUITE_SETTINGS}"
        return "\n".join([f"app ended at {last}: {app.state()}", *output_lines(app.log_tail()), advice])

    def _whole(
        self, failed: Stage | None, message: str, look: Mapping[str, Any], notes: Sequence[Mapping[str, Any]]
    ) -> str:
        """Return the message of a failure with the line that hangs, and the hosts that were looked up."""
        if failed is None:
            return ""
        lines = [message]
        if look.get("hangs"):
            lines.append(f"  slow at     {look['hangs'].replace(f'{self._root}/', '')}, while it is imported")
        hosts = {f"{one['host']}:{one['port']}": None for one in notes if "host" in one and one["host"] not in LOCAL}
        own = {f"{one.address.host}:{one.address.port}" for one in self.services.running()}
        if others := [host for host in hosts if host not in own]:
            lines.append(f"  looked up   {', '.join(others[-MOST_NAMES:])}: not a server of this run")
            variable = f"set the variable that has this address to another one, in [env] of {SUITE_SETTINGS}"
            lines.append(f"  or          {variable}")
        return self._scrub(self.services.scrub("\n".join(lines)))

    def _servers(self) -> tuple[str, ...]:
        stack = self.services.stack
        ready = [one for one in self.services.running() if one.name in {*SERVERS, *stack} and one.ready_s is not None]
        return tuple(f"{one.name}: {' '.join(filter(None, [one.backend, one.product, one.version]))}" for one in ready)

    def _touched(self) -> dict[str, tuple[str, ...]]:
        touched = self.services.connected()
        return {
            name: tuple(one for one in SERVERS if one in touched.get(name, ()))
            for name in self._names
            if name != LOOK_NAME
        }

    def _variables(
        self, fields: Sequence[Mapping[str, Any]], notes: Sequence[Mapping[str, Any]], missing: Sequence[str]
    ) -> tuple[ReadVariable, ...]:
        env = set(self._settings.env).union(*(one.env for one in self._settings.code_under_test))
        return read_variables(fields, notes, Sources(env, self._environ, self._folders, self._root), missing)

    def _left_empty(self) -> tuple[str, ...]:
        """Return what the last command of `prepare` has printed about tables without rows."""
        with contextlib.suppress(OSError):
            output = (self.services.directory / f"{PREPARE}.log").read_text(encoding="utf-8", errors="replace")
            return tuple(self._scrub(printable(line)) for line in output.splitlines() if f": {LEFT_EMPTY}" in line)
        return ()

    def _sqlite(self, notes: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
        files = {Path(one["sqlite"]) for one in notes if "sqlite" in one and not one["refused"]}
        inside = {path for path in files if path.is_relative_to(self._root) and path.is_file()}
        own = {self._shown(path) for path in inside if not _is_named(path.relative_to(self._root), self._settings)}
        return tuple(sorted(own))

    def _shown(self, file: str | Path) -> str:
        return os.path.relpath(file, self._root)

    def _child_environ(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> Mapping[str, str]:
        del command
        self._names.append(name)
        path = os.pathsep.join(filter(None, [environ.get("PYTHONPATH"), self._import_from]))
        protected = json.dumps(self._protected)
        return {**environ, READS: str(self._notes(name)), PROTECTED: protected, "PYTHONPATH": path}

    def _notes(self, name: str) -> Path:
        return self.services.directory / f"{name}{NOTES}"


class _Look(Process):
    """The process that imports the application."""

    arguments: Sequence[str] = ()

    def _command(self) -> list[str]:
        return [str(self._python), str(LOOK), *self.arguments]


def target_of(app: AppSettings) -> str:
    """Return the application as `module:attribute`, from its setting or its command; "" if none is named.

    For Django's `manage.py` this is that file.
    """
    targets = [word for word in app.command if TARGET.fullmatch(word) or Path(word).name == MANAGE]
    # For gunicorn, a module alone is enough.
    modules = [word for word in app.command[1:] if MODULE.fullmatch(word)] if "gunicorn" in app.command else []
    return app.asgi or app.wsgi or next(iter(targets + modules), "")


def _is_named(file: Path, settings: Settings) -> bool:
    """Return whether the settings name a SQLite file, given relative to the project's root."""
    tables = (settings.env, *(one.env for one in settings.code_under_test))
    return f"./{file.as_posix()}" in settings.also_allowed or any(
        file.name in text for env in tables for text in env.values()
    )


def _refusal(file: str) -> str:
    own = f"{FOLDER}/{Path(file).stem}.sqlite"
    return "\n".join(
        [
            f"the application opens {file}: you may work with this file of SQLite, so nothing was written to it",
            "  next        let the code read the name of the file from a variable, and set this variable in [env]",
            f'              of settings.toml, such as SQLITE_FILE = "{own}"',
            f'  or          let runs write to this file: also_allowed = ["./{file}"] in settings.toml',
        ]
    )


def _health_path(settings: Settings) -> str:
    return settings.app.health_path if settings.app else "/"


def _paths_to_ask(routes: Sequence[Route]) -> list[str]:
    found = [one for one in routes if one.method == "GET" and not one.has_parameters and not may_change_something(one)]
    return [one.path for one in found[:MOST_ROUTES]]


def _secrets_beside(settings: Settings, folders: Sequence[str], environ: Mapping[str, str]) -> frozenset[Secret]:
    """Return the values of variables with a name like `SECRET_KEY`, and the passwords of `.env` files."""
    found = [(name, text) for _, name, text in variables_of(folders)]
    found += [*environ.items(), *settings.env.items()]
    # Hiding a made-up value would hide parts of paths.
    found = [(name, text) for name, text in found if text not in MADE_UP]
    secrets = {Secret(text) for name, text in found if SECRET_NAME.search(name) and text[:1] not in {"/", "{"}}
    return frozenset(secrets.union(*(secrets_of(text) for _, text in found if "://" in text)))
