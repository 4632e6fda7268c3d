"""A worker process as its coordinator sees it: command line, environment, messages and end."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from plumbline import __version__
from plumbline.comparing.statistics.controls import is_control
from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.statistics.plan import BenchmarkPlan
from plumbline.comparing.trees.at_start.sitecustomize import TESTS, TRACE
from plumbline.comparing.trees.locks import read_toml
from plumbline.comparing.trees.sides import Side, Sides, python_path
from plumbline.comparing.trees.trace import AT_START
from plumbline.comparing.workers.protocol import (
    Alive,
    Begins,
    Block,
    Collected,
    Counted,
    Imported,
    Kind,
    Line,
    LogAsked,
    LogText,
    Message,
    Over,
    Turn,
)
from plumbline.processes import WATCHED, printable, set_affinity, signal_all, tree, watched_with_us
from plumbline.project import PYTEST_FINISHED, SUITE

PYTEST_FILES = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
LEFT_OUT = ("cacheprovider", "unraisableexception", "valkey", "django")  # plugins that take a tenth of a worker's time
# If a worker hangs, both workers have ended within 30 s.
ANSWER_LIMIT_S = LEAVE_LIMIT_S = 20.0
END_LIMIT_S = 5.0
LOG_LINES = 40
LOG_TAIL_BYTES = 64 * 1024


def worker_command(side: Side, configured_by: Path, plans: Sequence[BenchmarkPlan], profile: str) -> list[str]:
    """Return the arguments for Python. `configured_by`: the root of head, whose pytest configuration both sides use."""
    files = dict.fromkeys(f"{SUITE}/{plan.key.partition('::')[0]}" for plan in plans if not is_control(plan.key))
    paths = files or [SUITE]  # a pair with only controls starts the services, too
    command = ["-m", "pytest", *paths, "-q", "--no-header", "-s", "-p", "plumbline", f"--perf-profile={profile}"]
    command += ["--continue-on-collection-errors", *(part for name in LEFT_OUT for part in ("-p", f"no:{name}"))]
    configuration = pytest_configuration(configured_by)
    command += [f"-c={configuration}"] if configuration else []
    # As in pytest: if the suite has its own configuration, do not load any conftest.py above it.
    is_suites_own = configuration is not None and configuration.parent == configured_by / SUITE
    top = side.root / SUITE if is_suites_own else side.root
    # Only PYTHONPATH defines the import path.
    return [*command, "-o", "pythonpath=", f"--rootdir={side.root}", f"--confcutdir={top}"]


def worker_environment(side: Side, sides: Sides, hash_seed: int, notes_into: Path | None) -> dict[str, str]:
    """Return the environment variables of a worker. `notes_into`: the folder for the traces of a rehearsal."""
    path = python_path(side, sides)
    environ = {name: _in_copy(value, side, sides.top) for name, value in os.environ.items()}
    environ |= {"PWD": str(side.root), "PYTHONDONTWRITEBYTECODE": "", WATCHED: watched_with_us()}
    # Both sides have the same hash seed, so that the order of sets is equal. Each pair has another one.
    environ |= {"PYTHONPATH": path, "PYTHONHASHSEED": str(hash_seed)}
    if notes_into:
        environ |= {TRACE: str(notes_into / side.name / TESTS), "PYTHONPATH": f"{AT_START}{os.pathsep}{path}"}
    return {**environ, "PATH": os.pathsep.join([str(side.python.parent), environ.get("PATH", os.defpath)])}


def _in_copy(value: str, side: Side, top: Path) -> str:
    """Return the path in a side's copy for a path in the repository, and any other value as it is."""
    path = Path(os.path.realpath(value)) if os.path.isabs(value) else None  # noqa: PTH117
    if path is None or not path.is_relative_to(top) or path.is_relative_to(os.path.realpath(sys.prefix)):
        return value
    return str(side.tree / path.relative_to(top))


def pytest_configuration(root: Path) -> Path | None:
    """Return the file with the pytest configuration of the suite, if there is one."""
    for path in (folder / name for folder in (root / SUITE, root) for name in PYTEST_FILES):
        if path.is_file() and (path.name != "pyproject.toml" or "pytest" in read_toml(path).get("tool", {})):
            return path
    return None


class WorkerProcess:
    """A fresh pytest process of one side. Methods raise ComparisonInvalid if it dies, hangs or sends no message."""

    def __init__(
        self,
        side: Side,
        command: Sequence[str],
        environ: Mapping[str, str],
        scrub: Callable[[str], str],
        start_limit_s: float,
    ) -> None:
        """`start_limit_s`: the time limit for starting the application, at least ANSWER_LIMIT_S."""
        self.side = side
        self.start_limit_s = max(ANSWER_LIMIT_S, start_limit_s)
        self._scrub = scrub
        self.collected = Collected([])
        self._over: Over | None = None
        self._measures = False
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [str(side.python), *command, f"--perf-worker={theirs.fileno()}"],
                cwd=side.root,
                env=dict(environ),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        self._line = Line(ours)

    def send(self, message: Message) -> None:
        try:
            self._line.send(message)
        except OSError:
            raise self._ended() from None

    def listen(self) -> None:
        """Wait until the worker is ready to measure. Raises ComparisonInvalid for another version of Plumbline."""
        version = self._receive(Imported).version
        if version != __version__:
            raise ComparisonInvalid(
                f"the worker of {self.side.name} runs Plumbline {version}, but this process runs {__version__}:"
                " install the same version for both"
            )
        self.collected = self._receive(Collected, limit_s=self.start_limit_s)

    def begins(self, key: str) -> bool:
        """Wait until this benchmark begins to measure. Return False if the test ends without measuring."""
        message = self._receive(Begins, Over)
        if isinstance(message, Begins) and message.key != key:
            raise self._invalid(f"it began {message.key} out of turn")
        self._over = message if isinstance(message, Over) else None
        self._measures = self._over is None
        return self._measures

    def block(self, samples: int) -> list[float]:
        """Measure one block. Return its samples in seconds per operation, none if the test has ended."""
        self.send(Turn(samples))
        message = self._receive(Block, Over)
        if isinstance(message, Over):
            self._over, self._measures = message, False
        return message.samples_s if isinstance(message, Block) else []

    def count(self, rounds: int, log_of: Callable[[str, int], str]) -> Counted | None:
        """Count the benchmark, after `rounds` rounds that do not count. Return None if the test has ended.

        `log_of` returns the last lines of a server's log, by name and number of lines.
        """
        self.send(Turn(rounds))
        while True:
            message = self._receive(Alive, LogAsked, Counted, Over)
            if isinstance(message, LogAsked):
                self.send(LogText(log_of(message.service, message.lines)))
            elif isinstance(message, Over):
                self._over, self._measures = message, False
                return None
            elif isinstance(message, Counted):
                return message

    def end(self) -> str:
        """Let the test end. Return why it did not pass, "" if it passed."""
        if self._measures:
            self.send(Turn(0))
        over = self._over or self._receive(Over)
        self._over, self._measures = None, False
        return over.why_not_passed()

    def leave(self, limit_s: float = LEAVE_LIMIT_S) -> None:
        """Wait until the worker has stopped its application and ended by itself."""
        try:
            code = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise self._invalid(f"it did not end within {limit_s:g} s after its last benchmark") from None
        if code not in PYTEST_FINISHED:
            raise self._invalid(f"it ended with exit code {code}")

    def pin(self, cores: Collection[int]) -> None:
        """Run the worker and its children on these cores only, until it begins to measure."""
        set_affinity([process.pid for process in tree(self._process.pid)], cores)

    def dismiss(self) -> None:
        """Ask the worker to end, without waiting."""
        self._line.close()
        if self._process.poll() is None:
            self._process.terminate()

    def close(self) -> None:
        self.dismiss()
        if self._process.poll() is None:
            processes = tree(self._process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_LIMIT_S)
            signal_all(processes, signal.SIGKILL)
            self._process.wait()
        self._log.close()

    def _receive(self, *kinds: type[Kind], limit_s: float | None = None) -> Kind:
        """Return the next message, which must be of one of these kinds."""
        limit_s = limit_s or ANSWER_LIMIT_S
        try:
            message = self._line.receive(limit_s)
        except ConnectionError:
            raise self._ended() from None
        except TimeoutError:
            raise self._invalid(f"it did not answer within {limit_s:g} s") from None
        except ValueError as error:
            raise self._invalid(f"it sent something that is not a message: {error}") from None
        if not isinstance(message, kinds):
            raise self._invalid(f"it sent a message out of turn: {message!r:.200}")
        return message

    def _ended(self) -> ComparisonInvalid:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_LIMIT_S)
        code = self._process.poll()
        return self._invalid("it closed its connection" if code is None else f"it ended with exit code {code}")

    def _invalid(self, problem: str) -> ComparisonInvalid:
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
        lines = self._scrub(printable(self._log.read().decode(errors="replace"))).rstrip().splitlines()[-LOG_LINES:]
        text = "\n".join([f"the worker of {self.side.name} failed: {problem}; its last output:", *lines])
        text = text.replace(f"{self.side.tree}/", "")
        return ComparisonInvalid(text, side=self.side.name)
