"""Refuses a run whose code connects to a PostgreSQL or Redis that is neither the run's own nor allowed.

Python's own sockets are watched from within, see `at_start/sitecustomize.py`: even a connection of a moment is seen,
and refused. Connections of other programs and of libraries in C, as libpq and uvloop, are seen in the kernel's table of
sockets. It is read between tests, and all the time while something starts or is counted: never while anything is timed.
"""

import contextlib
import json
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psutil

from plumbline.services.address import DEFAULT_PORTS
from plumbline.services.at_start.sitecustomize import (
    LOOPBACK,
    PORTS,
    POSTGRES,
    REDIS,
    RULES,
    Place,
    Recognition,
    place_of,
    variables_of,
)
from plumbline.services.base import Service
from plumbline.services.errors import NotReady
from plumbline.services.netlink import tcp_peers, unix_peers
from plumbline.services.run import ServiceRun
from plumbline.services.variables import PLAIN_URL
from plumbline.settings import Settings

AT_START = Path(__file__).with_name("at_start")  # folder for PYTHONPATH: Python imports its sitecustomize.py first
NAMES = {POSTGRES: "postgres", REDIS: "redis"}
PORT_OF = {POSTGRES: DEFAULT_PORTS["postgresql"], REDIS: DEFAULT_PORTS["redis"]}


class _Source(NamedTuple):
    """A variable that names a server."""

    variable: str
    file: str
    kind: str
    template: str  # for [env]


class Guard:
    """Knows the servers of a run, and what its code under test has connected to."""

    def __init__(self, root: Path, settings: Settings, environ: Mapping[str, str], run: ServiceRun) -> None:
        """`environ`: that of this process, which may name servers."""
        self._settings = settings
        self._environ = environ
        self._run = run
        self._folders = [str(root), *([str(root / settings.app.directory)] if settings.app else [])]
        self._root = root
        self._own: dict[Place, str] = {}  # the run's servers, by name
        self._allowed = {place for text in settings.also_allowed for place in _places(*split_place(text))}
        self._sources = self._find_sources()
        self._recognition = Recognition({place: one.kind for place, one in self._sources.items()}, run.id)
        self._seen: dict[str, set[Place]] = {}  # in the kernel's table, by the name of a process

    def know(self, services: Iterable[Service]) -> None:
        """Let the code under test connect to these."""
        for service in services:
            if service.address.host:
                self._own |= dict.fromkeys(_places(service.address.host, service.address.port), service.name)

    def environ(self, name: str, environ: Mapping[str, str], kept: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a process that is watched from within, and keeps these variables."""
        rules = {
            "variables": kept,
            "folders": self._folders,
            "allowed": [*self._own, *self._allowed],
            "named": [(*place, source.kind) for place, source in self._sources.items()],
            "run": self._run.id,
            "notes": str(self._notes(name)),
        }
        file = self._run.directory / f"{name}.rules"
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)  # the variables may hold passwords
        file.write_text(json.dumps(rules), encoding="utf-8")
        self._notes(name).unlink(missing_ok=True)
        self._seen.pop(name, None)
        path = filter(None, [str(AT_START), environ.get("PYTHONPATH")])
        return {**environ, RULES: str(file), "PYTHONPATH": os.pathsep.join(path)}

    def check(self, name: str, pids: Sequence[int]) -> set[str]:
        """Return the names of the run's servers that a process has connected to. Raises NotReady at any other server.

        `pids`: of the process and its descendants. What `look` has seen counts, too.
        """
        self.look(name, pids)
        noted = {(host, port): kind for host, port, kind in self._noted(name)}
        places = {*noted, *self._seen[name]}
        for place in sorted(places - self._own.keys() - self._allowed):
            if kind := noted.get(place) or self._recognition.kind(place):
                raise NotReady(self._refusal(name, place, kind))
        return {self._own[place] for place in places & self._own.keys()}

    def look(self, name: str, pids: Sequence[int]) -> None:
        """Note what these processes are connected to now, for `check`."""
        self._seen[name] = self._seen.get(name, set()) | _connected(pids)

    def _notes(self, name: str) -> Path:
        return self._run.directory / f"{name}.places"

    def _noted(self, name: str) -> list[Any]:
        with contextlib.suppress(OSError, ValueError):
            return [json.loads(line) for line in self._notes(name).read_text(encoding="utf-8").splitlines()]
        return []

    def _find_sources(self) -> dict[Place, _Source]:
        """Return what names a server in `.env` files and variables."""
        found: dict[Place, _Source] = {}
        variables = [("the environment", name, text) for name, text in self._environ.items()]
        files = [(_shown(file, self._root), name, text) for file, name, text in variables_of(self._folders)]
        for file, name, text in [*files, *variables]:
            if scheme := PLAIN_URL.match(text):
                with contextlib.suppress(ValueError):
                    parts = urlsplit(text)
                    kind = REDIS if scheme["redis"] else POSTGRES
                    host, port = parts.hostname or LOOPBACK, parts.port or PORT_OF[kind]
                    # Looking up a name may take long, and servers at the usual ports are known without.
                    for place in _places(host, port) if port not in PORTS else filter(None, [place_of((host, port))]):
                        found.setdefault(place, _Source(name, file, kind, _template(kind, parts.scheme)))
        return found

    def _refusal(self, name: str, place: Place, kind: str) -> str:
        """Return the whole message. It holds no URL: that may hold a password."""
        where = place[0] if not place[1] else f"{f'[{place[0]}]' if ':' in place[0] else place[0]}:{place[1]}"
        server = NAMES[kind]
        own = next((f"{host}:{port}" for (host, port), one in self._own.items() if one == server), "")
        alike = (one for at, one in self._sources.items() if place[1] and at[1] == place[1])
        source = self._sources.get(place) or next(alike, None)
        if source is None and place[1]:
            ports = [one for one in variables_of(self._folders) if one[2] == str(place[1])]
            source = next(
                (_Source(one, _shown(file, self._root), kind, f"{{{server}.port}}") for file, one, _ in ports), None
            )
        named = f"{source.variable} in {source.file}" if source else "no .env file: perhaps a default in the code"
        line = f'{source.variable} = "{source.template}"' if source else f'NAME = "{_template(kind, "")}"'
        step = f"add {line} to [env] in settings.toml"
        step += "" if source else ", with the name that your settings read"
        lines = [
            f"{name} is not allowed to go on: it connects to a {kind} that is not one of this run",
            f"  server      {where}",
            f"  own server  {own or 'none: it is off'}",
            f"  named by    {named}",
            f"  next        {step if own else f'switch {server} on, and {step}'}",
            f"  or          if it may be used: also_allowed = [{json.dumps(where)}] in settings.toml",
        ]
        return "\n".join(lines)


def _template(kind: str, scheme: str) -> str:
    """Return what stands for the run's server in [env], in place of a URL with this scheme."""
    server = NAMES[kind]
    if "+" not in scheme:
        return f"{{{server}.url}}"
    return scheme + "://{%s.user}:{%s.password}@{%s.host}:{%s.port}/{%s.database}".replace("%s", server)


def split_place(text: str) -> Place:
    """Return the host and the port of an entry of `also_allowed`, or the path of a Unix socket and 0."""
    if text.startswith("/"):
        return text, 0
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _places(host: str, port: int) -> list[Place]:
    """Return a server's place by its name, and by each of its addresses."""
    if port == 0:
        return [(host, 0)]
    found: list[Any] = [(host, port)]
    with contextlib.suppress(OSError, UnicodeError):
        found += [one[4] for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    return list(dict.fromkeys(filter(None, map(place_of, found))))


def _connected(pids: Sequence[int]) -> set[Place]:
    """Return what these processes are connected to now, by the kernel's table of sockets."""
    found, inodes = set[object](), set[int]()
    for file in (file for pid in pids for file in Path("/proc").glob(f"{pid}/fd/*")):
        with contextlib.suppress(OSError):
            kind, _, number = str(file.readlink()).partition(":")
            inodes |= {int(number[1:-1])} if kind == "socket" else set()
    try:
        found |= tcp_peers(inodes) | unix_peers(inodes)
    except OSError:  # another system, or a sandbox
        for pid in pids:
            with contextlib.suppress(psutil.Error):
                found |= {tuple(one.raddr) for one in psutil.Process(pid).net_connections("tcp") if one.raddr}
    return {place for place in map(place_of, found) if place}


def _shown(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)
