"""Python imports this module at the start of each Python process of the code under test.

It refuses connections to a PostgreSQL or Redis server that is not the run's own, records each server that the process
connects to, and keeps `.env` files from replacing the run's variables. Plumbline may not be installed there.
"""

import contextlib
import errno
import importlib
import json
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

# Environment variables: the path of the rules, the run's id, and in a trial the path for what `plumbline_reads` notes.
RULES, RUN, READS = "PLUMBLINE_RULES", "PLUMBLINE_RUN", "PLUMBLINE_READS"
POSTGRES, REDIS = "PostgreSQL", "Redis"
PORTS = {5432: POSTGRES, 5433: POSTGRES, 6432: POSTGRES, 6379: REDIS, 6380: REDIS, 26379: REDIS}
# PostgreSQL answers a request for TLS with one letter. Redis answers PING even before authentication.
QUESTIONS = {POSTGRES: b"\0\0\0\x08\x04\xd2\x16\x2f", REDIS: b"PING\r\n"}
ANSWERS = {POSTGRES: (b"S", b"N"), REDIS: (b"+PONG", b"-NOAUTH", b"-DENIED", b"-ERR", b"-LOADING", b"-MASTERDOWN")}
ANSWER_LIMIT_S = 0.25
# Packages that read `.env` files.
LOADERS = {"dotenv", "environ", "environs", "dynaconf", "decouple", "envparse", "prettyconf"}
LOOPBACK = "localhost"
LISTENS = "0A"  # in /proc/net/tcp: proc_net_tcp(5)

Endpoint = tuple[str, int]  # a host and a port, or the path of a Unix socket and 0

_connect, _connect_ex = socket.socket.connect, socket.socket.connect_ex


def endpoint_of(address: object) -> Endpoint | None:
    """Return the endpoint of a socket's address; None if it is neither TCP nor a Unix socket."""
    if isinstance(address, tuple) and len(address) >= 2 and isinstance(address[1], int):
        host = str(address[0]).partition("%")[0].removeprefix("::ffff:")
        return (LOOPBACK if host in {LOOPBACK, "::1"} or host.startswith("127.") else host), address[1]
    if isinstance(address, str | bytes) and (path := os.fsdecode(address)).startswith("/"):
        return path, 0
    return None


class Recognizer:
    """Identifies PostgreSQL and Redis by port, by the variable that names them, and on this machine by their answer."""

    def __init__(self, named: Mapping[Endpoint, str], run: str) -> None:
        self._named = named  # the kinds of servers that a file or a variable names
        self._run = run
        self._known: dict[Endpoint, str] = {}

    def kind(self, endpoint: Endpoint) -> str:
        """Return PostgreSQL or Redis; "" for another server, and for one that a process of the run serves."""
        if endpoint not in self._known:
            host, port = endpoint
            guess = self._named.get(endpoint) or PORTS.get(port, "")
            if port == 0:
                self._known[endpoint] = _kind_of_file(host)
            elif host == LOOPBACK:
                self._known[endpoint] = "" if _serves(self._run, port) else _asked(port, guess)
            else:
                self._known[endpoint] = guess
        return self._known[endpoint]


def _kind_of_file(path: str) -> str:
    name = Path(path).name
    if not Path(path).exists():
        return ""
    return POSTGRES if name.startswith(".s.PGSQL.") else REDIS if "redis" in name or "valkey" in name else ""


def _asked(port: int, guess: str) -> str:
    """Ask a server of this machine what it is. Return the guess if it does not answer."""
    for kind in sorted(QUESTIONS, key=lambda kind: (kind != guess, kind != REDIS)):
        for host in ("127.0.0.1", "::1"):
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as asking:
                asking.settimeout(ANSWER_LIMIT_S)
                try:
                    _connect(asking, (host, port))
                except OSError:
                    continue
                try:
                    asking.sendall(QUESTIONS[kind])
                    answer = asking.recv(64)
                except OSError:
                    answer = b""
                if answer.startswith(ANSWERS[kind]) and (kind == REDIS or len(answer) == 1):
                    return kind
                if answer:
                    return ""
                break
        else:
            return ""  # nobody listens
    return guess


def _serves(run: str, port: int) -> bool:
    """Return whether a process of the run listens on this port."""
    sockets = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                _, local, _, state, *fields = line.split()
                if state == LISTENS and local.endswith(f":{port:04X}"):
                    sockets.add(f"socket:[{fields[5]}]")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{RUN}={run}".encode() in (process / "environ").read_bytes().split(b"\0"):
                for file in (process / "fd").iterdir():
                    if os.readlink(file) in sockets:  # noqa: PTH115
                        return True
    return False


class Watch:
    """Checks each connection of this process."""

    def __init__(
        self, allowed: Iterable[Endpoint], recognizer: Recognizer, note: Callable[[Endpoint, str], None]
    ) -> None:
        """`note` is called once per endpoint, with its kind if connections to it are refused, else with ""."""
        self._allowed = set(allowed)
        self._recognizer = recognizer
        self._note = note
        self._seen: dict[Endpoint, str] = {}

    def refuses(self, address: object) -> str:
        """Return the kind of a forbidden server, or "" if the connection is allowed."""
        endpoint = endpoint_of(address)
        if endpoint is None:
            return ""
        if endpoint not in self._seen:
            self._seen[endpoint] = "" if endpoint in self._allowed else self._recognizer.kind(endpoint)
            self._note(endpoint, self._seen[endpoint])
        return self._seen[endpoint]

    def connect(self, connecting: Any, address: Any) -> None:
        if kind := self.refuses(address):
            message = f"Plumbline refuses this connection: the {kind} at {address} does not belong to this run"
            raise ConnectionRefusedError(errno.ECONNREFUSED, message)
        _connect(connecting, address)

    def connect_ex(self, connecting: Any, address: Any) -> int:
        return errno.ECONNREFUSED if self.refuses(address) else _connect_ex(connecting, address)


class Variables:
    """Keeps the run's variables from being replaced by those of a `.env` file."""

    def __init__(self, kept: Mapping[str, str], folders: Iterable[str]) -> None:
        self._kept = kept
        self._folders = [*folders]
        self._set = type(os.environ).__setitem__

    def restore(self) -> None:
        """Restore variables that a parent process has replaced."""
        for name, value in self._kept.items():
            if name in os.environ and os.environ[name] != value and self._is_in_a_file(name, os.environ[name]):
                self._set(os.environ, name, value)

    def set(self, environ: "os._Environ[Any]", name: Any, value: Any) -> None:
        """Replacement for `os.environ[name] = value`."""
        if name not in self._kept or not (self._is_a_loader(sys._getframe(1)) or self._is_in_a_file(name, value)):
            self._set(environ, name, value)

    def _is_a_loader(self, frame: Any) -> bool:
        while frame is not None and frame.f_globals.get("__name__") in {__name__, "os", "_collections_abc"}:
            frame = frame.f_back
        return frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in LOADERS

    def _is_in_a_file(self, name: str, value: str) -> bool:
        found = variables_of([str(Path.cwd()), *self._folders])
        return any(name == one and (value == text or (value and value in text)) for _, one, text in found)


def variables_of(folders: Iterable[str]) -> Iterator[tuple[Path, str, str]]:
    """Yield the file, the name and the raw value of each variable in the folders' `.env` files."""
    for folder in dict.fromkeys(folders):
        for file in sorted([*Path(folder).glob(".env*"), *Path(folder).glob("*.env")]):
            try:
                lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            except OSError:
                continue
            for line in lines:
                name, equals, text = line.partition("=")
                if equals and not name.lstrip().startswith("#"):
                    yield file, name.strip().removeprefix("export ").strip(), text.strip().strip("'\"")


def begin(rules: Mapping[str, Any]) -> None:
    """Apply the rules of the run to this process."""
    variables = Variables(rules["variables"], rules["folders"])
    variables.restore()
    keep = variables.set
    type(os.environ).__setitem__ = lambda environ, name, value: keep(environ, name, value)  # type: ignore[method-assign]

    def note(endpoint: Endpoint, kind: str) -> None:
        with contextlib.suppress(OSError), Path(rules["notes"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps([*endpoint, kind]) + "\n")

    named = {(host, port): kind for host, port, kind in rules["named"]}
    watch = Watch(((host, port) for host, port in rules["allowed"]), Recognizer(named, rules["run"]), note)
    socket.socket.connect = lambda connecting, address: watch.connect(connecting, address)  # type: ignore[method-assign]
    socket.socket.connect_ex = lambda connecting, address: watch.connect_ex(connecting, address)  # type: ignore[method-assign]


# Plumbline imports this module under its full name.
if __name__ == "sitecustomize":
    # The rules are missing after the end of the run, and closed to other users.
    with contextlib.suppress(KeyError, OSError, ValueError):
        rules_of_run = json.loads(Path(os.environ[RULES]).read_text(encoding="utf-8"))
        begin(rules_of_run)
        if "probes" in rules_of_run:
            listener = importlib.import_module("plumbline_probes").Listener
            listener(rules_of_run["probes"], rules_of_run["name"], rules_of_run["folders"]).start()
        if READS in os.environ:  # in a trial
            importlib.import_module("plumbline_reads").begin(os.environ[READS], rules_of_run["folders"])
    sys.path[:] = [folder for folder in sys.path if folder != str(Path(__file__).parent)]
    ours = sys.modules.pop("sitecustomize")
    try:  # the next module of this name: the user's own
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    except ModuleNotFoundError:
        sys.modules["sitecustomize"] = ours
