"""Counts from probes: inside the test's process and the Python processes of the code under test."""

import contextlib
import json
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from plumbline.counting.families import CannotCount, Numbers
from plumbline.results.schema import CallSite
from plumbline.services.at_start.plumbline_probes import SOCKET, Probes

ANSWER_LIMIT_S = 5.0
TEST = "test"  # the name of the test's process

T = TypeVar("T")


class Ended(CannotCount):
    """A process has ended."""


class Process:
    """The connection to one process of the code under test."""

    def __init__(self, path: Path) -> None:
        """Raises OSError if the process has ended."""
        self.name = path.name.split(".")[0]
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(ANSWER_LIMIT_S)
            self._socket.connect(str(path))
            self._file = self._socket.makefile("rwb")
        except OSError:
            self._socket.close()
            raise

    def ask(self, step: str, names: Sequence[str] = ()) -> Any:
        """Return the answer to a step of a pass. Raises CannotCount, and Ended."""
        try:
            self._file.write(json.dumps({"step": step, "names": [*names]}).encode() + b"\n")
            self._file.flush()
            line = self._file.readline()
        except OSError as error:
            kind = Ended if isinstance(error, ConnectionError) else CannotCount
            raise kind(f"{self.name} has stopped answering: {error}") from None
        if not line:
            raise Ended(f"{self.name} has ended while counts were taken")
        return json.loads(line)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        self._socket.close()


class ProbedProcesses:
    """The probes of all processes during one pass."""

    def __init__(self, names: Sequence[str], folder: Path, own_folders: Sequence[str]) -> None:
        """`names` are of PROBES. `folder` has the sockets of the processes; `own_folders` the project's own code."""
        self._names = names
        self._folder = folder
        self._own = Probes(own_folders)
        self._processes: list[Process] = []
        self.rounds: list[dict[str, list[tuple[str, Any]]]] = []  # by probe: each process with what was found there

    def begin(self) -> dict[str, str]:
        """Begin a pass. Return by name why a probe can't be used in one of the processes."""
        self.end()
        self.rounds = []
        failed = self._own.begin(self._names)
        for path in sorted(self._folder.glob(SOCKET.format("*", "*"))):
            with contextlib.suppress(OSError):
                self._processes.append(Process(path))
        for process in [*self._processes]:
            try:
                answer = process.ask("begin", self._names)
            except Ended:
                process.close()
                self._processes.remove(process)
                continue
            for name, why in answer.items():
                failed.setdefault(name, f"{why} (in {process.name})")
        return failed

    def enter(self) -> None:
        for process in self._processes:
            process.ask("enter")
        self._own.enter()  # last, so that it sees nothing of the other processes' requests

    def leave(self) -> None:
        found = [(TEST, self._own.leave())]
        found += [(process.name, process.ask("leave")) for process in self._processes]
        self.rounds.append({name: [*_of_probe(found, name)] for name in self._names})

    def end(self) -> None:
        self._own.end()
        while self._processes:
            self._processes.pop().close()


def _of_probe(found: Sequence[tuple[str, dict[str, Any]]], name: str) -> Iterator[tuple[str, Any]]:
    for process, probes in found:
        if name in probes:
            yield process, probes[name]


class Reader(Protocol):
    """What the answers of a probe mean. `found` has the processes, each with the answer of its probe for one round."""

    families: Sequence[str]  # of the counts that `numbers` returns

    def numbers(self, found: Sequence[tuple[str, Any]]) -> Numbers:
        """Return the counts of a round."""

    def sites(self, found: Sequence[tuple[str, Any]]) -> dict[str, list[CallSite]]:
        """Return by count where it came from in a round. Counts of other sources may be among them."""


class ProbeSource:
    """A source of counts that asks probes in all processes."""

    def __init__(
        self, readers: Mapping[str, Reader], folder: Path, own_folders: Sequence[str], note: Callable[[str], None]
    ) -> None:
        """`readers` by the name of the probe; `note` is called if a probe can't be used."""
        self.families: list[str] = []
        self.sites: list[dict[str, list[CallSite]]] = []  # by round, after `end`
        self._readers = readers
        self._note = note
        self._processes = ProbedProcesses([*readers], folder, own_folders)
        self._usable: list[str] = []

    def begin(self) -> None:
        failed = self._processes.begin()
        for name, why in failed.items():
            self._note(f"{', '.join(self._readers[name].families) or name} can't be counted: {why}")
        self._usable = [name for name in self._readers if name not in failed]
        self.families = [family for name in self._usable for family in self._readers[name].families]

    def enter(self) -> None:
        self._processes.enter()

    def leave(self) -> None:
        self._processes.leave()

    def end(self) -> list[Numbers]:
        self._processes.end()
        rounds = self._processes.rounds
        self.sites = [_merged(self._readers[name].sites(found[name]) for name in self._usable) for found in rounds]
        return [_merged(self._readers[name].numbers(found[name]) for name in self._usable) for found in rounds]


def _merged(parts: Iterable[dict[str, T]]) -> dict[str, T]:
    return {name: value for part in parts for name, value in part.items()}
