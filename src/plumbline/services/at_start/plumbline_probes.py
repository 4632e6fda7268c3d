"""Probes see inside a Python process what no server can see, during the rounds of a counting pass.

The test's process uses them directly. Each Python process of the code under test answers the test's process on a Unix
socket. Plumbline may not be installed there, so this module and the probes import only the standard library.

A probe does nothing until `begin`, so it costs the timed rounds nothing.
"""

import contextlib
import importlib
import json
import os
import socket
import sys
import warnings
from _thread import start_new_thread  # before gevent replaces it
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

# By name: the module in this folder, and its class.
PROBES = {
    "sites": ("plumbline_sites", "Sites"),
    "blocking": ("plumbline_blocking", "Blocking"),
    "holds": ("plumbline_holds", "Holds"),
    "memory": ("plumbline_memory", "Memory"),
}
SOCKET = "{}.{}.probes"  # the name and the id of the process

_new_socket = socket.socket


class Probe(Protocol):
    """A probe of one process. `begin` may raise any error, whose text says why it cannot be used here."""

    def __init__(self, folders: Sequence[str]) -> None:
        """`folders` hold the project's own code: see `plumbline_reads.is_own`."""

    def begin(self) -> None:
        """Prepare for a pass, for example by wrapping functions."""

    def enter(self) -> None:
        """Begin to count at the start of a round's block."""

    def leave(self) -> Any:
        """Stop counting at the end of a round's block. Return what was found, as data for JSON."""

    def end(self) -> Sequence[Any] | None:
        """Undo what `begin` has done. May raise as `begin`.

        Return what was found by block, if `leave` could not; nothing if this process was idle.
        """


class Probes:
    """The probes of this process."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = folders
        self._probes: dict[str, Probe] = {}
        self._tasks = _import("plumbline_loops").Tasks()

    def begin(self, names: Sequence[str]) -> dict[str, str]:
        """Begin a pass. Return by name why a probe cannot be used here."""
        self.end()
        failed = {}
        for name in names:
            try:
                probe = self._probes[name] = _class_of(name)(self._folders)
                probe.begin()
            except Exception as error:
                self._probes.pop(name, None)
                failed[name] = str(error) or type(error).__name__
        return failed

    def note_tasks(self) -> None:
        """Note the tasks that run before a block. See `are_working`."""
        self._tasks.note()

    def enter(self) -> None:
        for probe in self._probes.values():
            probe.enter()

    def are_working(self) -> bool:
        """Return whether a task that has begun since `note_tasks` still runs."""
        return bool(self._tasks.are_running())

    def leave(self) -> dict[str, Any]:
        """Return what each probe has found, by name."""
        return {name: probe.leave() for name, probe in reversed(self._probes.items())}

    def end(self) -> dict[str, Any]:
        """Return by name what probes have found by block, or why they could not: a text."""
        found: dict[str, Any] = {}
        while self._probes:
            name, probe = self._probes.popitem()
            try:
                found[name] = probe.end()
            except Exception as error:
                found[name] = str(error) or type(error).__name__
        return {name: answer for name, answer in found.items() if answer is not None}


def _class_of(name: str) -> Callable[[Sequence[str]], Probe]:
    module, owner = PROBES[name]
    kind: Callable[[Sequence[str]], Probe] = getattr(_import(module), owner)
    return kind


def _import(module: str) -> Any:
    folder = str(Path(__file__).parent)
    sys.path.insert(0, folder)  # for what the module imports from this folder
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(folder)


def answer(probes: Probes, question: Mapping[str, Any]) -> Any:
    """Answer a question of the test's process: a step of a pass, and the names of the probes for `begin`."""
    match question["step"]:
        case "begin":
            return probes.begin(question["names"])
        case "enter":
            probes.note_tasks()
            return probes.enter()
        case "working":
            return probes.are_working()
        case "leave":
            return probes.leave()
    return probes.end()


class Listener:
    """Answers the test's process in a thread, which waits in the kernel while nobody asks."""

    def __init__(self, folder: str, name: str, folders: Sequence[str]) -> None:
        """`folder` is for the socket, `name` is that of the process, and `folders` hold the project's own code."""
        self._folder, self._name, self._folders = folder, name, folders
        self._probes = Probes(folders)
        os.register_at_fork(after_in_child=self.start)

    def start(self) -> None:
        self._probes.end()  # in a process that was forked during a pass
        # The waiting thread holds no lock that a child could inherit.
        warnings.filterwarnings("ignore", ".* is multi-threaded, use of fork", DeprecationWarning)
        with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: the process is ending
            listening = _new_socket(socket.AF_UNIX)
            listening.bind(os.path.join(self._folder, SOCKET.format(self._name, os.getpid())))  # noqa: PTH118
            listening.listen()
            start_new_thread(self._listen, (listening, os.getpid()))

    def _listen(self, listening: socket.socket, pid: int) -> None:
        with contextlib.suppress(OSError):
            while os.getpid() == pid:
                asking, _ = listening.accept()
                probes = self._probes = Probes(self._folders)
                # An error ends this pass: the test's process sees the end of the connection.
                with contextlib.suppress(Exception), asking, asking.makefile("rwb") as line:
                    for question in line:
                        line.write(json.dumps(answer(probes, json.loads(question))).encode() + b"\n")
                        line.flush()
                with contextlib.suppress(Exception):
                    probes.end()
