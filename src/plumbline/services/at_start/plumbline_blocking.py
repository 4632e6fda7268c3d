"""Counts calls that block a running event loop, by function and by line of the project's own code.

The functions are those of the package blockbuster. Replacing them would miss `from time import sleep`, and needs
changes to built-in types. A profile function sees each call of a built-in function, however it was found, and leaves
nothing behind. It is set in the threads of the running loops, and in threads that begin meanwhile.
"""

import ast
import builtins
import collections
import importlib
import io
import linecache
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from plumbline_callers import Callers, outward  # type: ignore[import-not-found]
from plumbline_loops import in_thread_of, running_loops  # type: ignore[import-not-found]

OF_OS = (
    *("access", "fsync", "getcwd", "link", "listdir", "lstat", "mkdir", "open", "read", "readlink", "remove", "rename"),
    *("replace", "rmdir", "scandir", "sendfile", "stat", "statvfs", "symlink", "system", "unlink", "write"),
)
OF_FILES = ("read", "readinto", "readline", "readlines", "write", "writelines")
OF_SOCKETS = (
    *("connect", "connect_ex", "_accept", "recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg"),
    *("send", "sendall", "sendmsg", "sendto"),
)
SOCKETS = "socket.socket.", "ssl.SSLSocket."
OF_SQLITE = {
    "Connection": ("execute", "executemany", "executescript", "commit", "rollback"),
    "Cursor": ("execute", "executemany", "executescript", "fetchone", "fetchmany", "fetchall"),
}
# Written in Python: what they call is not counted again.
IN_PYTHON = {
    "subprocess": ("Popen.__init__", "Popen.communicate"),
    "ssl": ("SSLSocket.do_handshake", "SSLSocket.read", "SSLSocket.send", "SSLSocket.write"),
}
# Code that may block: imports happen once, and asyncio and threads start others without waiting for long.
MAY_BLOCK = {"asyncio", "uvloop", "importlib", "linecache", "plumbline", "plumbline_callers", "plumbline_reads"}
MAY_BLOCK_IN = {("threading", "start"), ("threading", "_is_owned"), ("concurrent.futures.thread", "submit")}
# Its calls are as many as the folders of a path, which differ between machines.
MAY_BLOCK_IN |= {("posixpath", "realpath"), ("posixpath", "_joinrealpath")}

NOWHERE = ("", 0, "")  # the line of a call in code from `exec`
IN_USE = "another profiler is in use"

CanBlock = Callable[[Any, Any], bool]  # whether a call can block, by the object of the method and the calling frame


class Blocking:
    """A probe: see `plumbline_probes.Probe`."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._callers = Callers(folders)
        self._found: collections.Counter[tuple[str, Any]] = collections.Counter()
        self._receiving: set[int] = set()  # the ids of sockets whose last call has received
        self._counting = self._ended = False
        self._error: Exception | None = None
        self._functions = dict(_functions())
        self._methods = _by_name(_methods())
        self._names = {*self._methods, *(function.__name__ for function in self._functions)}
        self._in_python = {id(code): (code, name) for code, name in _in_python()}  # code has a slow hash
        self._get_running_loop: Callable[[], Any] = lambda: None
        self._see: Callable[[Any, str, Any], None] | None = None
        self._is_refused = False

    def begin(self) -> None:
        events = sys.modules.get("asyncio.events")
        if events is None:
            return
        self._get_running_loop = events._get_running_loop
        self._see = self._profile_function()
        try:
            if threading.getprofile() is not None:
                raise RuntimeError(IN_USE)
            threading.setprofile(self._see)
            self._install()
            for loop in running_loops():
                in_thread_of(loop, self._install)
            if self._is_refused:
                raise RuntimeError(IN_USE)
        except RuntimeError:
            self.end()
            raise

    def enter(self) -> None:
        self._found.clear()
        self._receiving.clear()
        self._counting = True

    def leave(self) -> list[tuple[str, str, str, int, str, int]]:
        """Return the family, the function, the file, line and function of the project's own code, and how often.

        See NOWHERE.
        """
        self._counting = False
        if self._error is not None:
            raise self._error
        return [("blocking", name, *site, count) for (name, site), count in self._found.items()]

    def end(self) -> None:
        self._ended = True
        if self._see is not None:
            if threading.getprofile() is self._see:
                threading.setprofile(None)
            self._remove()
            for loop in running_loops():
                in_thread_of(loop, self._remove)

    def _install(self) -> None:
        """Set the profile function of this thread, unless there is another one."""
        if sys.getprofile() is None:
            sys.setprofile(self._see)
        elif sys.getprofile() is not self._see:
            self._is_refused = True

    def _remove(self) -> None:
        if sys.getprofile() is self._see:
            sys.setprofile(None)

    def _profile_function(self) -> Callable[[Any, str, Any], None]:
        """Return a function for `sys.setprofile`. It is fast: it sees each call of each function."""
        names, in_python = self._names, self._in_python

        def see(frame: Any, event: str, called: Any) -> None:
            if self._ended:
                sys.setprofile(None)  # in a thread that began during the pass
            if event == "c_call":
                if called.__name__ not in names:
                    return
            elif event != "call" or id(frame.f_code) not in in_python:
                return
            if self._counting:
                try:
                    self._note(frame, called)
                except Exception as error:  # the code under test must not see it
                    self._error = error

        return see

    def _note(self, frame: Any, called: Any) -> None:
        if self._get_running_loop() is None:
            return
        if called is None:
            name, owner, frame = self._in_python[id(frame.f_code)][1], frame.f_locals["self"], frame.f_back
        else:
            name, owner = self._functions.get(called) or self._method(called, frame), called.__self__
        if name and not self._receives_more(name, owner) and (site := self._site(frame)):
            self._found[name, site] += 1

    def _receives_more(self, name: str, owner: Any) -> bool:
        """Return whether a call receives more of the same answer: the network chooses the number of its parts."""
        if name.startswith(SOCKETS):
            if name.removeprefix(SOCKETS[0]).removeprefix(SOCKETS[1]).startswith(("read", "recv")):
                if id(owner) in self._receiving:
                    return True
                self._receiving.add(id(owner))
            else:
                self._receiving.discard(id(owner))
        return False

    def _method(self, called: Any, frame: Any) -> str:
        for kind, name, can_block in self._methods.get(called.__name__, ()):
            if issubclass(type(called.__self__), kind):
                return name if can_block(called.__self__, frame) else ""
        return ""

    def _site(self, frame: Any) -> Any:
        """Return the line of the project's own code that blocks the loop. None if no such code does, or if it may."""
        for one in outward(frame):
            module = str(one.f_globals.get("__name__"))
            if module.partition(".")[0] in MAY_BLOCK or (module, one.f_code.co_name) in MAY_BLOCK_IN:
                return None
            if id(one.f_code) in self._in_python:
                return None
            if self._callers.is_own(one):
                return self._callers.site(frame) or NOWHERE
        return None


def _functions() -> Iterator[tuple[Any, str]]:
    yield time.sleep, "time.sleep"
    yield builtins.open, "open"
    yield builtins.input, "input"
    yield importlib.import_module("_socket").getaddrinfo, "socket.getaddrinfo"
    for name in OF_OS:
        if hasattr(os, name):
            yield getattr(os, name), f"os.{name}"


def _methods() -> Iterator[tuple[type, str, str, CanBlock]]:
    """Yield type, method, the name to show, and when it can block."""
    for kind in (io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.TextIOWrapper, io.FileIO):
        for method in OF_FILES:
            yield kind, method, f"io.{kind.__name__}.{method}", _is_file
    for method in OF_SOCKETS:
        yield (
            importlib.import_module("_socket").socket,
            method,
            f"socket.socket.{method.lstrip('_')}",
            lambda one, _: one.gettimeout() != 0,
        )
    for method in ("acquire", "acquire_lock"):
        yield type(threading.Lock()), method, f"threading.Lock.{method}", _waits
    if sqlite3 := sys.modules.get("sqlite3"):
        for name, methods in OF_SQLITE.items():
            for method in methods:
                yield getattr(sqlite3, name), method, f"sqlite3.{name}.{method}", lambda *_: True


def _by_name(methods: Iterator[tuple[type, str, str, CanBlock]]) -> dict[str, list[tuple[type, str, CanBlock]]]:
    found: dict[str, list[tuple[type, str, CanBlock]]] = {}
    for kind, method, name, can_block in methods:
        found.setdefault(method, []).append((kind, name, can_block))
    return found


def _in_python() -> Iterator[tuple[Any, str]]:
    for module, names in IN_PYTHON.items():
        for name in names if module in sys.modules else ():
            owner, method = name.split(".")
            function = getattr(getattr(sys.modules[module], owner), method)
            yield function.__code__, f"{module}.{name.removesuffix('.__init__')}"


def _is_file(file: Any, _: Any) -> bool:
    """Return whether a file is one of the system, and neither the process's output, a terminal nor `/dev/null`."""
    if file in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        return False
    raw = getattr(file, "buffer", file)
    raw = getattr(raw, "raw", raw)
    try:
        return (
            isinstance(raw, io.FileIO)
            and os.get_blocking(raw.fileno())
            and not stat.S_ISCHR(os.fstat(raw.fileno()).st_mode)
        )
    except (OSError, ValueError):  # it is closed
        return False


def _waits(lock: Any, frame: Any) -> bool:
    """Return whether a call of `acquire` waits for a lock that is held. False if it is not certain."""
    if not lock.locked():
        return False
    try:
        given = _arguments(frame)
    except (KeyError, SyntaxError, TypeError, ValueError):
        return False
    return bool(given.get("blocking", True)) and given.get("timeout", -1) != 0


def _arguments(frame: Any) -> dict[str, Any]:
    """Return the arguments of the call of `acquire` that a frame is at, from its source: names or constants."""
    line, end, start, stop = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    lines = [linecache.getline(frame.f_code.co_filename, number).encode() for number in range(line, end + 1)]
    lines[-1] = lines[-1][:stop]
    lines[0] = lines[0][start:]
    call = ast.parse(b"".join(lines).decode(), mode="eval").body
    if not isinstance(call, ast.Call):
        raise TypeError(type(call).__name__)
    values = {**frame.f_globals, **frame.f_locals}

    def value(node: ast.expr) -> Any:
        return values[node.id] if isinstance(node, ast.Name) else ast.literal_eval(node)

    given = dict(zip(("blocking", "timeout"), map(value, call.args), strict=False))
    return given | {str(keyword.arg): value(keyword.value) for keyword in call.keywords}
