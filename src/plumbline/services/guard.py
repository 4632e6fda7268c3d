"""Ends a run if the code under test connects to a PostgreSQL or Redis server that is not the run's own.

`at_start/sitecustomize.py` refuses such connections inside Python processes. Connections of other programs, and of C
libraries such as libpq and uvloop, are found in the kernel's table of sockets. It is read between tests, and
continuously while services start or benchmarks are counted, but never while anything is timed.
"""

import contextlib
import json
import os
import re
import socket
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psutil

from plumbline.processes import SHELLS, is_run_by_python
from plumbline.services.address import DEFAULT_PORTS
from plumbline.services.at_start.sitecustomize import (
    LOOPBACK,
    PORTS,
    POSTGRES,
    REDIS,
    RULES,
    Endpoint,
    Recognizer,
    endpoint_of,
    variables_of,
)
from plumbline.services.base import Service
from plumbline.services.errors import NotReady
from plumbline.services.netlink import tcp_peers, unix_peers
from plumbline.services.run import ServiceRun
from plumbline.services.variables import PLAIN_URL
from plumbline.settings import Settings

URL = re.compile(rf"\b(?:{PLAIN_URL.pattern})[^\s'\"]*")
READ_BY_ALL = (".env", ".env.local")  # the files that libraries of all languages read
AT_START = Path(__file__).with_name("at_start")  # for PYTHONPATH: Python imports sitecustomize.py at its start
NAMES = {POSTGRES: "postgres", REDIS: "redis"}
PORT_OF = {POSTGRES: DEFAULT_PORTS["postgresql"], REDIS: DEFAULT_PORTS["redis"]}


class _Source(NamedTuple):
    """A variable of a `.env` file or of the environment that names a server."""

    variable: str
    file: str
    kind: str
    template: str  # the value to suggest for [env]


def own_folders(root: Path, settings: Settings) -> list[str]:
    """Return the folders that hold the project's own code."""
    return [str(root), *([str(root / settings.app.directory)] if settings.app else [])]


class Guard:
    """Checks the connections of the code under test against the servers of the run."""

    def __init__(self, root: Path, settings: Settings, environ: Mapping[str, str], run: ServiceRun) -> None:
        """`environ` is this process's environment, which may name servers."""
        self._settings = settings
        self._environ = environ
        self._run = run
        self._folders = own_folders(root, settings)
        self._root = root
        self._own: dict[Endpoint, str] = {}  # the names of the run's servers
        servers = [text for text in settings.also_allowed if not text.startswith("./")]  # those are SQLite files
        self._allowed = {endpoint for text in servers for endpoint in _endpoints(*parse_endpoint(text))}
        self._sources = self._find_sources()
        self._recognizer = Recognizer({endpoint: one.kind for endpoint, one in self._sources.items()}, run.id)
        self._seen: dict[str, set[Endpoint]] = {}  # in the kernel's table, by process name

    def allow(self, services: Iterable[Service]) -> None:
        """Allow connections to these services."""
        for service in services:
            if service.address.host:
                self._own |= dict.fromkeys(_endpoints(service.address.host, service.address.port), service.name)

    def environ(self, name: str, environ: Mapping[str, str], kept: Mapping[str, str]) -> dict[str, str]:
        """Return an environment in which Python processes check their own connections and keep these variables."""
        rules = {
            "variables": kept,
            "folders": self._folders,
            "allowed": [*self._own, *self._allowed],
            "named": [(*endpoint, source.kind) for endpoint, source in self._sources.items()],
            "run": self._run.id,
            "notes": str(self._notes(name)),
            "name": name,
            "probes": str(self._run.probes),
        }
        file = self._run.directory / f"{name}.rules"
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)  # the variables may hold passwords
        file.write_text(json.dumps(rules), encoding="utf-8")
        self._notes(name).unlink(missing_ok=True)
        self._seen.pop(name, None)
        path = filter(None, [str(AT_START), environ.get("PYTHONPATH")])
        packages = sysconfig.get_path("platlib")  # an editable Plumbline is not in its environment's site-packages
        return {**environ, RULES: str(file), "PYTHONPATH": os.pathsep.join(path), "PLUMBLINE_PACKAGES": packages}

    def check(self, name: str, pids: Sequence[int]) -> set[str]:
        """Return the names of the run's servers that a process has connected to. Raises NotReady for any other server.

        `pids` are the ids of the process and its descendants. Connections from `record` count too.
        """
        self.record(name, pids)
        noted = {(host, port): kind for host, port, kind in self._noted(name)}
        endpoints = {*noted, *self._seen[name]}
        for endpoint in sorted(endpoints - self._own.keys() - self._allowed):
            if kind := noted.get(endpoint) or self._recognizer.kind(endpoint):
                raise NotReady(self._refusal(name, endpoint, kind))
        return {self._own[endpoint] for endpoint in endpoints & self._own.keys()}

    def check_program(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> None:
        """Check which servers a program may connect to, before it starts. Raises NotReady for one of another origin.

        Only Python processes refuse connections. Of other programs, the URLs in the command are known, and the
        variables of `.env` files that their `environ` does not replace.
        """
        program, words = command[0], " ".join(command)
        if is_run_by_python(program, environ.get("PATH")):
            return
        named = {endpoint for url in URL.finditer(words) for endpoint in _endpoints_of(url[0])}
        if Path(program).name not in SHELLS:  # a shell reads no such file
            sources = self._sources.items()
            named |= {at for at, one in sources if Path(one.file).name in READ_BY_ALL and one.variable not in environ}
        for endpoint in sorted(named - self._own.keys() - self._allowed):
            if kind := self._recognizer.kind(endpoint):
                raise NotReady(self._refusal(name, endpoint, kind))

    def record(self, name: str, pids: Sequence[int]) -> None:
        """Record the open connections of these processes for `check`."""
        self._seen[name] = self._seen.get(name, set()) | _connected(pids)

    def connected(self) -> dict[str, set[str]]:
        """Return by process the names of the run's servers that it has connected to."""
        found = {
            name: seen | {(host, port) for host, port, _ in self._noted(name)} for name, seen in self._seen.items()
        }
        return {name: {self._own[one] for one in endpoints & self._own.keys()} for name, endpoints in found.items()}

    def _notes(self, name: str) -> Path:
        return self._run.directory / f"{name}.places"

    def _noted(self, name: str) -> list[Any]:
        with contextlib.suppress(OSError, ValueError):
            return [json.loads(line) for line in self._notes(name).read_text(encoding="utf-8").splitlines()]
        return []

    def _find_sources(self) -> dict[Endpoint, _Source]:
        """Return the variables that name servers, from `.env` files and the environment."""
        found: dict[Endpoint, _Source] = {}
        variables = [("the environment", name, text) for name, text in self._environ.items()]
        files = [(_shown(file, self._root), name, text) for file, name, text in variables_of(self._folders)]
        for file, name, text in [*files, *variables]:
            if scheme := PLAIN_URL.match(text):
                kind = REDIS if scheme["redis"] else POSTGRES
                for endpoint in _endpoints_of(text):
                    found.setdefault(endpoint, _Source(name, file, kind, _template(kind, text.partition("://")[0])))
        return found

    def _refusal(self, name: str, endpoint: Endpoint, kind: str) -> str:
        """Return the whole message, without URLs: they may hold passwords."""
        host, port = endpoint
        where = f"{f'[{host}]' if ':' in host else host}:{port}" if port else host
        server = NAMES[kind]
        own = next((f"{host}:{port}" for (host, port), one in self._own.items() if one == server), "")
        alike = (one for at, one in self._sources.items() if port and at[1] == port)
        source = self._sources.get(endpoint) or next(alike, None)
        if source is None and port:
            ports = [one for one in variables_of(self._folders) if one[2] == str(port)]
            source = next(
                (_Source(one, _shown(file, self._root), kind, f"{{{server}.port}}") for file, one, _ in ports), None
            )
        named = f"{source.variable} in {source.file}" if source else "no .env file: perhaps a default in the code"
        line = f'{source.variable} = "{source.template}"' if source else f'NAME = "{_template(kind, "")}"'
        step = f"add {line} to [env] in settings.toml"
        step += "" if source else ", with the name that your settings read"
        lines = [
            f"{name} connects to a {kind} server that does not belong to this run",
            f"  server      {where}",
            f"  own server  {own or 'none: it is off'}",
            f"  named by    {named}",
            f"  next        {step if own else f'switch {server} on, and {step}'}",
            f"  or          allow this server: also_allowed = [{json.dumps(where)}] in settings.toml",
        ]
        return "\n".join(lines)


def _template(kind: str, scheme: str) -> str:
    """Return the template for [env] that gives a URL of the run's server with this scheme."""
    server = NAMES[kind]
    if "+" not in scheme:
        return f"{{{server}.url}}"
    return scheme + "://{%s.user}:{%s.password}@{%s.host}:{%s.port}/{%s.database}".replace("%s", server)


def parse_endpoint(text: str) -> Endpoint:
    """Parse an entry of `also_allowed`: a host with a port, or the path of a Unix socket."""
    if text.startswith("/"):
        return text, 0
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _endpoints_of(url: str) -> list[Endpoint]:
    """Return the endpoints of a URL of PostgreSQL or Redis."""
    try:
        parts = urlsplit(url)
        is_redis = parts.scheme.startswith(("redis", "valkey"))
        host, port = parts.hostname or LOOPBACK, parts.port or PORT_OF[REDIS if is_redis else POSTGRES]
    except ValueError:
        return []
    # DNS may be slow, and the usual ports are recognised without it.
    known = [endpoint_of((host, port))] if port in PORTS else _endpoints(host, port)
    return [*filter(None, known)]


def _endpoints(host: str, port: int) -> list[Endpoint]:
    """Return a server's endpoints: its name, and each of its addresses."""
    if port == 0:
        return [(host, 0)]
    found: list[Any] = [(host, port)]
    with contextlib.suppress(OSError, UnicodeError):
        found += [one[4] for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    return list(dict.fromkeys(filter(None, map(endpoint_of, found))))


def _connected(pids: Sequence[int]) -> set[Endpoint]:
    """Return the peers of these processes' open connections, from the kernel's table of sockets."""
    found, inodes = set[object](), set[int]()
    for file in (file for pid in pids for file in Path("/proc").glob(f"{pid}/fd/*")):
        with contextlib.suppress(OSError):
            kind, _, number = str(file.readlink()).partition(":")
            inodes |= {int(number[1:-1])} if kind == "socket" else set()
    try:
        found |= tcp_peers(inodes) | unix_peers(inodes)
    except OSError:  # not Linux, or in a sandbox
        for pid in pids:
            with contextlib.suppress(psutil.Error):
                found |= {tuple(one.raddr) for one in psutil.Process(pid).net_connections("tcp") if one.raddr}
    return {endpoint for endpoint in map(endpoint_of, found) if endpoint}


def _shown(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)
