"""Python imports this module first in what a run starts, which may lack Plumbline.

It keeps the code under test from connecting to a PostgreSQL or Redis that is not the run's own, notes each server that
this code connects to, and keeps a `.env` file from replacing the variables that the run has set.
"""

import contextlib
import errno
import json
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

RULES, RUN = "PLUMBLINE_RULES", "PLUMBLINE_RUN"  # variables: the file of the rules, and the run
POSTGRES, REDIS = "PostgreSQL", "Redis"
PORTS = {5432: POSTGRES, 5433: POSTGRES, 6432: POSTGRES, 6379: REDIS, 6380: REDIS, 26379: REDIS}
# PostgreSQL answers a request for TLS by one letter. Redis answers PING, also if it wants a password first.
QUESTIONS = {POSTGRES: b"\0\0\0\x08\x04\xd2\x16\x2f", REDIS: b"PING\r\n"}
ANSWERS = {POSTGRES: (b"S", b"N"), REDIS: (b"+PONG", b"-NOAUTH", b"-DENIED", b"-ERR", b"-LOADING", b"-MASTERDOWN")}
ANSWER_LIMIT_S = 0.25
# Packages that set variables from files.
LOADERS = {"dotenv", "environ", "environs", "dynaconf", "decouple", "envparse", "prettyconf"}
LOOPBACK = "localhost"
LISTENS = "0A"  # in /proc/net/tcp: proc_net_tcp(5)

Place = tuple[str, int]  # a host and a port, or the path of a Unix socket and 0

_connect, _connect_ex = socket.socket.connect, socket.socket.connect_ex


def place_of(address: object) -> Place | None:
    """Return the place that a socket's address stands for; None if it is of another kind."""
    if isinstance(address, tuple) and len(address) >= 2 and isinstance(address[1], int):
        host = str(address[0]).partition("%")[0].removeprefix("::ffff:")
        return (LOOPBACK if host in {LOOPBACK, "::1"} or host.startswith("127.") else host), address[1]
    if isinstance(address, str | bytes) and (path := os.fsdecode(address)).startswith("/"):
        return path, 0
    return None


class Recognition:
    """Knows PostgreSQL and Redis by their ports, by what names them, and on this machine by how they answer."""

    def __init__(self, named: Mapping[Place, str], run: str) -> None:
        self._named = named  # servers that a file or a variable names, and what they are
        self._run = run
        self._known: dict[Place, str] = {}

    def kind(self, place: Place) -> str:
        """Return what a place is: PostgreSQL, Redis or ""; "" also for what a process of the run serves."""
        if place not in self._known:
            host, port = place
            guess = self._named.get(place) or PORTS.get(port, "")
            if port == 0:
                self._known[place] = _kind_of_file(host)
            elif host == LOOPBACK:
                self._known[place] = "" if _serves(self._run, port) else _asked(port, guess)
            else:
                self._known[place] = guess
        return self._known[place]


def _kind_of_file(path: str) -> str:
    name = Path(path).name
    if not Path(path).exists():
        return ""
    return POSTGRES if name.startswith(".s.PGSQL.") else REDIS if "redis" in name or "valkey" in name else ""


def _asked(port: int, guess: str) -> str:
    """Ask a server of this machine what it is; one that does not answer is what one would guess."""
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
    """Return whether a process that carries the run in its environment listens on a port of this machine."""
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
    """Sees each connection that the sockets of this process make."""

    def __init__(self, allowed: Iterable[Place], recognition: Recognition, note: Callable[[Place, str], None]) -> None:
        """`note` is called once for each place, with what that is; "" for one that may be connected to."""
        self._allowed = set(allowed)
        self._recognition = recognition
        self._note = note
        self._seen: dict[Place, str] = {}

    def refuses(self, address: object) -> str:
        """Return what is at an address that must not be connected to; "" if it may."""
        place = place_of(address)
        if place is None:
            return ""
        if place not in self._seen:
            self._seen[place] = "" if place in self._allowed else self._recognition.kind(place)
            self._note(place, self._seen[place])
        return self._seen[place]

    def connect(self, connecting: Any, address: Any) -> None:
        if kind := self.refuses(address):
            message = f"Plumbline refuses this connection: the {kind} at {address} is not one of this run"
            raise ConnectionRefusedError(errno.ECONNREFUSED, message)
        _connect(connecting, address)

    def connect_ex(self, connecting: Any, address: Any) -> int:
        return errno.ECONNREFUSED if self.refuses(address) else _connect_ex(connecting, address)


class Variables:
    """Keeps variables that are set from being replaced by what a `.env` file says."""

    def __init__(self, kept: Mapping[str, str], folders: Iterable[str]) -> None:
        self._kept = kept
        self._folders = [*folders]
        self._set = type(os.environ).__setitem__

    def restore(self) -> None:
        """Set those again that a program between the run and this one has replaced."""
        for name, value in self._kept.items():
            if name in os.environ and os.environ[name] != value and self._is_in_a_file(name, os.environ[name]):
                self._set(os.environ, name, value)

    def set(self, environ: "os._Environ[Any]", name: Any, value: Any) -> None:
        """Take the place of `os.environ[name] = value`."""
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
    """Yield the variables of the `.env` files in some folders: the file, the name, and the value as it is written."""
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
    """Watch this process by these rules, which the run has written."""
    variables = Variables(rules["variables"], rules["folders"])
    variables.restore()
    keep = variables.set
    type(os.environ).__setitem__ = lambda environ, name, value: keep(environ, name, value)  # type: ignore[method-assign]

    def note(place: Place, kind: str) -> None:
        with contextlib.suppress(OSError), Path(rules["notes"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps([*place, kind]) + "\n")

    named = {(host, port): kind for host, port, kind in rules["named"]}
    watch = Watch(((host, port) for host, port in rules["allowed"]), Recognition(named, rules["run"]), note)
    socket.socket.connect = lambda connecting, address: watch.connect(connecting, address)  # type: ignore[method-assign]
    socket.socket.connect_ex = lambda connecting, address: watch.connect_ex(connecting, address)  # type: ignore[method-assign]


# Plumbline imports this module under its full name.
if __name__ == "sitecustomize":
    # Another user's process has no access, and one that outlives its run finds no rules.
    with contextlib.suppress(KeyError, OSError, ValueError):
        begin(json.loads(Path(os.environ[RULES]).read_text(encoding="utf-8")))
    sys.path[:] = [folder for folder in sys.path if folder != str(Path(__file__).parent)]
    ours = sys.modules.pop("sitecustomize")
    try:  # the next module of this name: the user's own
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    except ModuleNotFoundError:
        sys.modules["sitecustomize"] = ours
