"""The longest time that one callback holds an event loop, in the test's process and those of the code under test."""

from collections.abc import Sequence
from pathlib import Path

from plumbline.counting.families import Numbers
from plumbline.counting.probes import TEST, ProbedProcesses, Wait
from plumbline.results.schema import LoopHold

PROBE = "holds"


class LoopHolds:
    """A source that counts nothing, and finds the longest hold of all rounds."""

    def __init__(self, folder: Path, own_folders: Sequence[str], wait: Wait = lambda _: None) -> None:
        """See `ProbedProcesses`."""
        self.families: list[str] = []
        self.longest: LoopHold | None = None  # of the last pass; None without one
        self._processes = ProbedProcesses([PROBE], folder, own_folders, wait)
        self._unknown = ""  # why it can't be measured

    def begin(self) -> None:
        if self._processes.are_all():  # a restart of the pass: to connect again takes 2 ms
            self._processes.rounds = []
            return
        self._unknown = "not all processes answered"
        self.longest = LoopHold(0.0, unknown=self._unknown)
        self._unknown = self._processes.begin().get(PROBE, "")

    def enter(self) -> None:
        self._processes.enter()

    def leave(self) -> None:
        self._processes.leave()

    def end(self) -> list[Numbers]:
        self._processes.end()
        rounds = self._processes.rounds
        found = [LoopHold(0.0, unknown=self._unknown)]
        for process, held in (answer for one in rounds for answer in one[PROBE]):
            if held is not None and not self._unknown:
                duration_s, (file, line, function) = held
                found.append(LoopHold(duration_s, file, line, function, "" if process == TEST else process))
        self.longest = max(found, key=lambda hold: hold.duration_s)
        return [{} for _ in rounds]
