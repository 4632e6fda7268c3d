"""Serve an application: the command of its HTTP server, and the meaning of that server's errors."""

import contextlib
import re
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from plumbline.processes import printable, with_lines
from plumbline.services.address import Address
from plumbline.services.at_start.plumbline_reads import PACKAGES
from plumbline.settings import AppSettings

# Longer than any run: the server must not close a client's idle connection between two benchmarks.
KEEP_ALIVE_S = 3600
GUNICORN_CONFIG = Path(__file__).with_name("gunicorn_config.py")
# In the output of servers that can't listen.
PORT_TAKEN = re.compile(
    r"(address (is )?already in use|EADDRINUSE|Connection in use|attempting to bind)", re.IGNORECASE
)
NOT_FOUND = re.compile(r"(?:ModuleNotFoundError: |: )No module named '?([\w.]+)'?")
PLACE = re.compile(r'File "([^"]+)", line (\d+)')  # in a traceback
WRONG_NAMES = ("Error loading ASGI app", "Failed to find attribute", "Failed to parse ", "Failed to find application")
SERVERS = {"asgi": "uvicorn", "wsgi": "gunicorn"}


def command_of(app: AppSettings, python: Path, directory: Path, address: Address) -> list[str]:
    """Return the command that serves the application at this address. `directory`: where its imports start."""
    if app.asgi:
        command = [str(python), "-m", "uvicorn", app.asgi, "--app-dir", str(directory)]
        command += ["--host", address.host, "--port", str(address.port)]
        # One worker, regardless of WEB_CONCURRENCY.
        command += ["--workers", "1", "--timeout-keep-alive", str(KEEP_ALIVE_S), "--log-level", "warning"]
        return [*command, "--factory"] if app.factory else command
    if app.wsgi:
        target = f"{app.wsgi}()" if app.factory else app.wsgi
        bind = f"{address.host}:{address.port}"
        return [str(python), "-m", "gunicorn", target, "--config", str(GUNICORN_CONFIG), "--bind", bind]
    first, *rest = (_filled(part, address) for part in app.command)
    return [str(python) if first == "python" else first, *rest]


def _filled(template: str, address: Address) -> str:
    parts = string.Formatter().parse(template)
    return "".join(text + (str(getattr(address, name)) if name else "") for text, name, _, _ in parts)


def says_port_taken(output: str, port: int) -> bool:
    """Return whether a server's output says that it can't listen on its port.

    A line without this port may be about another one. It counts if somebody listens on this port.
    """
    lines = [line for line in output.splitlines() if PORT_TAKEN.search(line)]
    return any(re.search(rf"\b{port}\b", line) for line in lines) or (bool(lines) and any(listening_on(port)))


def listening_on(port: int) -> Iterator[Any]:
    """Yield the sockets of this machine that listen on a port, as psutil describes them."""
    with contextlib.suppress(psutil.Error):
        found = psutil.net_connections("tcp")
        yield from (one for one in found if one.status == psutil.CONN_LISTEN and one.laddr[1:] == (port,))


def last_own_line(output: str, root: Path) -> str:
    """Return the last line of the project in the tracebacks of an output, such as "shop/main.py:4", or ""."""
    places = [(Path(file), line) for file, line in PLACE.findall(with_lines(printable(output)))]
    own = [one for one in places if one[0].is_relative_to(root) and PACKAGES.isdisjoint(one[0].parts)]
    return f"{own[-1][0].relative_to(root).as_posix()}:{own[-1][1]}" if own else ""


def advice_at_exit(app: AppSettings, output: str, add: Callable[[str], str]) -> str:
    """Return what to do next after an exit with this output; "" if it is unknown. `add`: the advice to install."""
    key = next(key for key in ("asgi", "wsgi", "command") if getattr(app, key))
    words = app.command or [app.asgi or app.wsgi]
    named = " ".join(words) if key == "command" else repr(words[0])
    wrong_name = f"check `{key}` and `directory` of [app] in settings.toml: {key} is {named}"
    if any(text in output for text in WRONG_NAMES):
        return wrong_name
    if not (modules := NOT_FOUND.findall(output)):
        return ""
    top = modules[-1].partition(".")[0]
    if top == SERVERS.get(key):
        return add(top)
    is_own = top in {re.split(r"[.:(/]", word)[0] for word in words}
    return wrong_name if is_own else add(f"the package of the module {modules[-1]}")
