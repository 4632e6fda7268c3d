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
END_LIMIT_S = 60.0  # a probe may have to evaluate what it has recorded
TEST = "test"  # the name of the test's process

T = TypeVar("T")
Wait = Callable[[Callable[[], bool]], None]


class Ended(CannotCount):
    """A process has ended."""


def probed_in(folder: Path) -> set[str]:
    """Return the names of the processes with probes, by their sockets in a folder."""
    return {path.name.split(".")[0] for path in folder.glob(SOCKET.format("*", "*"))}


class Process:
    """The connection to one process of the code under test."""

    def __init__(self, path: Path) -> None:
        """Raises OSError if the process has ended."""
        self.name = path.name.split(".")[0]
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(ANSWER_LIMIT_S)  # also of the connection
            self._socket.connect(str(path))
            self._file = self._socket.makefile("rwb")
        except OSError:
            self._socket.close()
            raise

    def ask(self, step: str, names: Sequence[str] = ()) -> None:
        """Ask for a step of a pass. Raises CannotCount, and Ended."""
        with self._answering():
            self._socket.settimeout(END_LIMIT_S if step == "end" else ANSWER_LIMIT_S)
            self._file.write(json.dumps({"step": step, "names": [*names]}).encode() + b"\n")
            self._file.flush()

    def answer(self) -> Any:
        """Return the answer. Raises CannotCount, and Ended."""
        with self._answering():
            line = self._file.readline()
        if not line:
            raise Ended(f"{self.name} has ended while counts were taken")
        return json.loads(line)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        self._socket.close()

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kind = Ended if isinstance(error, ConnectionError) else CannotCount
            raise kind(f"{self.name} has stopped answering: {error}") from None


class ProbedProcesses:
    """The probes of all processes during one pass."""

    def __init__(
        self, names: Sequence[str], folder: Path, own_folders: Sequence[str], wait: Wait = lambda _: None
    ) -> None:
        """`names` are of PROBES. `folder` has the sockets of the processes; `own_folders` the project's own code.

        `wait` returns when the code under test has ended its work for a block. It gets a function that returns whether
        one of these processes still works.
        """
        self._names = names
        self._folder = folder
        self._own = Probes(own_folders)
        self._wait = wait
        self._processes: list[Process] = []
        self._paths: list[Path] | None = None  # of the processes' sockets; None outside of a pass
        self.rounds: list[dict[str, list[tuple[str, Any]]]] = []  # by probe: each process with what was found there
        self.names: list[str] = []  # of the processes
        self.failed: dict[tuple[str, str], str] = {}  # by probe and process: why it can't be used, "" if idle

    def begin(self) -> dict[str, str]:
        """Begin a pass. Return by name why a probe can't be used in one of the processes."""
        self.end()
        self.rounds = []
        self.failed = {(name, TEST): why for name, why in self._own.begin(self._names).items()}
        self._paths = self._sockets()
        for path in self._paths:
            with contextlib.suppress(OSError):
                self._processes.append(Process(path))
        self.names = [*dict.fromkeys([TEST, *(process.name for process in self._processes)])]
        for process in [*self._processes]:
            try:
                process.ask("begin", self._names)
                answer = process.answer()
            except Ended:
                process.close()
                self._processes.remove(process)
                continue
            for name, why in answer.items():
                self.failed[name, process.name] = why
        return {name: f"{why} (in {process})" for (name, process), why in self.failed.items()}

    def are_all(self) -> bool:
        """Return whether a pass has begun, and no process has begun or ended since then."""
        return self._sockets() == self._paths

    def _sockets(self) -> list[Path]:
        return sorted(self._folder.glob(SOCKET.format("*", "*")))

    def working(self, name: str) -> list[str]:
        """Return the names of the processes in which a probe can be used."""
        return [process for process in self.names if (name, process) not in self.failed]

    def enter(self) -> None:
        self._ask_all("enter")
        self._own.enter()  # last, so that it sees nothing of the other processes' requests

    def leave(self) -> None:
        found = [(TEST, self._own.leave())]
        self._wait(lambda: any(works for _, works in self._ask_all("working")))
        found += self._ask_all("leave")
        self.rounds.append({name: [*_of_probe(found, name)] for name in self._names})

    def end(self) -> None:
        self._paths = None
        found = [(TEST, self._own.end())]
        try:
            found += self._ask_all("end")
        finally:
            while self._processes:
                self._processes.pop().close()
        for name in {name for _, answers in found for name in answers}:
            idle = {*self.names}
            for process, answers in found:
                if isinstance(blocks := answers.get(name, []), str):
                    self.failed[name, process] = blocks
                elif blocks:
                    idle.discard(process)
                    for answer, counted in zip(blocks, self.rounds, strict=False):
                        counted[name] = [*counted[name], (process, answer)]
            self.failed = {(name, process): "" for process in idle} | self.failed

    def _ask_all(self, step: str) -> list[tuple[str, Any]]:
        """Return the answers of all processes, which work on them at the same time."""
        for process in self._processes:
            process.ask(step)
        return [(process.name, process.answer()) for process in self._processes]


def _of_probe(found: Sequence[tuple[str, dict[str, Any]]], name: str) -> Iterator[tuple[str, Any]]:
    for process, probes in found:
        if probes.get(name) is not None:
            yield process, probes[name]


class Reader(Protocol):
    """Read counts from the answers of a probe.

    `found` has the processes, each with the answer of its probe for one round.
    """

    families: Sequence[str]  # of the counts that `numbers` returns
    by_process: bool  # whether each process has families of its own, which begin with its name and a dot

    def numbers(self, found: Sequence[tuple[str, Any]]) -> Numbers:
        """Return the counts of a round."""

    def sites(self, found: Sequence[tuple[str, Any]]) -> dict[str, list[CallSite]]:
        """Return by count where it came from in a round. Counts of other sources may be among them."""

    def uncounted(self, found: Sequence[tuple[str, Any]]) -> list[str]:
        """Return what happened in a round without being counted, each with its process."""


class ProbeSource:
    """A source of counts that asks probes in all processes."""

    def __init__(
        self,
        readers: Mapping[str, Reader],
        folder: Path,
        own_folders: Sequence[str],
        note: Callable[[str], None],
        wait: Wait = lambda _: None,
    ) -> None:
        """`readers` by the name of the probe; `note` is called if a probe can't be used. See ProbedProcesses."""
        self.families: list[str] = []
        self.sites: dict[str, list[CallSite]] = {}  # by count: of the last round, after `end`
        self._readers = readers
        self._note = note
        self._processes = ProbedProcesses([*readers], folder, own_folders, wait)

    def begin(self) -> None:
        self._processes.begin()
        self._check()

    def enter(self) -> None:
        self._processes.enter()

    def leave(self) -> None:
        self._processes.leave()

    def has_counted(self) -> bool:
        """Return whether the last round had any counts."""
        last = self._processes.rounds[-1] if self._processes.rounds else {}
        return any(self._readers[name].numbers(found) for name, found in last.items())

    def end(self) -> list[Numbers]:
        self._processes.end()
        usable = self._check()
        rounds = [{name: found[name] for name in usable} for found in self._processes.rounds]
        last = rounds[-1] if rounds else {}
        self.sites = _merged(self._readers[name].sites(found) for name, found in last.items())
        for name, found in (item for one in rounds for item in one.items()):
            for what in self._readers[name].uncounted(found):
                self._note(f"{', '.join(self._readers[name].families)} don't include {what}")
        return [_merged(self._readers[name].numbers(found[name]) for name in found) for found in rounds]

    def _check(self) -> list[str]:
        """Note which probes can't be used, set the families that can be counted, and return the usable probes."""
        usable = []
        self.families = []
        for name, reader in self._readers.items():
            working = self._processes.working(name)
            if reader.by_process:
                self.families += [f"{process}.{family}" for process in working for family in reader.families]
            elif all_work := working == self._processes.names:
                self.families += reader.families
            if reader.by_process or all_work:
                usable.append(name)
        reasons: dict[tuple[str, str], list[str]] = {}
        for (name, process), why in self._processes.failed.items():
            if why:
                reasons.setdefault((name, why), []).append(process)
        for (name, why), processes in reasons.items():
            what = ", ".join(self._readers[name].families) or name
            self._note(f"{what} can't be counted in {', '.join(processes)}: {why}")
        return usable


def _merged(parts: Iterable[dict[str, T]]) -> dict[str, T]:
    return {name: value for part in parts for name, value in part.items()}
