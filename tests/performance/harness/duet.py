"""The paired comparison: two pytest processes, base and head, measure the same benchmarks in turns on one core.

A pair is two fresh processes, each with the application served from its own tree and a database of its own. Within a
pair, each benchmark is measured in quads of four blocks, base-head-head-base or the reverse at random, so that a
drift of the machine cancels. `pairs.py` says what the differences mean.
"""

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from .arms import Arm, Arms, changed_paths, foreign, nothing_differs, python_path
from .base import NoBase
from .base_environment import read_toml
from .environment import WATCHED, watched_with_us
from .pairs import TrialInvalid, block_differences, figure
from .pin import CoreLock, give_way, rest_s, set_affinity, take_precedence
from .readiness import NotReady, describe, run_alone
from .reads import AT_START, PREPARE, READS, TESTS, reaches
from .results import FunctionTime
from .services import ServiceError, Services
from .services.base import signal_all, tree
from .services.variables import placeholders
from .settings import Settings
from .trial import CONTROLS, MOST_QUADS, Pair, Trial, Wish, conduct, controls
from .turns import PROFILE, Line, LineClosed

PYTEST_FILES = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
NOT_IN_ARMS = ("cacheprovider", "unraisableexception", "valkey")
"""Plugins that take a tenth of an arm's time to import, or to collect garbage at its end."""
ANSWER_LIMIT_S = LEAVE_LIMIT_S = 20.0
END_LIMIT_S = 5.0
"""Together below 30 with an arm to end that does not hang: so long may one that hangs keep the run."""
PLUGIN = "tests.performance.harness.plugin"
CAME_TO_ITS_END = {0, 1, 5}
"""Exit codes of pytest: all passed, some failed or could not be collected, there was nothing to run."""
SQL_LIMIT_S = 30.0
LOG_LINES = 40
LOG_TAIL_BYTES = 64 * 1024
MOST_TOLD = 200
MOST_PROFILED, PROFILED_S = 20, 0.5
"""Benchmarks whose regression is looked into, the worst first, and for how long each, as it is without a profiler."""
ROUNDS = 4
"""Databases of an arm, taken by turns: while those of one pair are measured, those of the last two leave and those of
the next one start."""
REDIS_NUMBERS = {"base": (1, 3, 5, 7, 9), "head": (2, 4, 6, 8, 10)}
"""Of an arm's Redis databases: those of the rounds, and one that was prepared. The first, 0, is nobody's."""
REDIS_DATABASES = 11
POSTGRES_CONNECTIONS = 100
"""What PostgreSQL allows by default, and so what each of the arms may expect that are there at once."""


def compare(
    settings: Settings,
    arms: Arms,
    wishes: Sequence[Wish],
    *,
    budget_s: float,
    profile: str = "ci",
    backends: Mapping[str, str] = {},
    on_pair: Callable[[str], None] = lambda _: None,
) -> Trial:
    """Compare until each benchmark is convicted or acquitted, or the time is up; not those that run the same in both.

    `backends`: where the servers came from before, by name, to be taken again where that is left open. `on_pair` is
    told before each pair how far the comparison is. Raises TrialInvalid, and NoBase where the base can't be run.
    """
    began_s = time.monotonic()
    numbers = itertools.count(1)
    with both_arms(settings, arms, wishes, profile, backends) as both:

        def run_pair(chosen: Sequence[Wish], then: Sequence[Wish] = ()) -> Pair:
            left_s = max(began_s + budget_s - time.monotonic(), 0.0)
            on_pair(f"  pair {next(numbers)}: {len(chosen)} benchmarks undecided, {left_s:.0f} s left at most")
            return both.run_pair(chosen, then)

        reached = [wish for wish in wishes if wish.key not in both.unreached]
        trial = Trial()
        if reached:
            trial = conduct(reached, run_pair, budget_s=budget_s, clock=lambda: time.monotonic() - began_s)
        trial.unreached = both.unreached
        convicted = [
            wish for wish in reached if (one := trial.judgements.get(wish.key)) and one.verdict == "regression"
        ]
        convicted.sort(key=lambda wish: -trial.judgements[wish.key].change)
        if convicted:
            trial.functions = both.slower_functions(convicted[:MOST_PROFILED])
    return trial


@contextlib.contextmanager
def both_arms(
    settings: Settings, arms: Arms, wishes: Sequence[Wish], profile: str, backends: Mapping[str, str] = {}
) -> Iterator["BothArms"]:
    """What both arms stand on, to run pairs on; raises as `compare`."""
    with contextlib.ExitStack() as stack:
        core = CoreLock.acquire(settings.pin)
        stack.callback(core.release)
        ground = stack.enter_context(_Ground(settings, arms, core.core, backends))
        ground.rehearse([*controls(wishes[0].thresholds), *wishes], profile)
        yield BothArms(ground, profile)


class BothArms:
    """Runs pairs of fresh processes."""

    def __init__(self, ground: "_Ground", profile: str) -> None:
        self.unreached = ground.unreached
        self._ground = ground
        self._profile = profile
        self._rng = random.Random()

    def run_pair(self, chosen: Sequence[Wish], then: Sequence[Wish] = ()) -> Pair:
        """One pair, with the controls; the processes of the next one, of which are `then`, are started meanwhile."""
        then = [*controls(then[0].thresholds), *then] if then else []
        chosen = [*controls(chosen[0].thresholds), *chosen]
        return _pair(self._ground, chosen, then, self._profile, self._rng)

    def slower_functions(self, wishes: Sequence[Wish]) -> dict[str, list[FunctionTime]]:
        """By benchmark, what head spends more time in: one more pair, under a profiler; nothing where it fails.

        Nor where the profiler was left out.
        """
        try:
            from .extras.profile import slower_functions
        except ImportError:
            return {}
        arms = self._ground.arms
        trees = arms.base.tree, arms.head.tree
        with tempfile.TemporaryDirectory(prefix="perf-profile-") as name:
            folder = Path(name)
            with contextlib.suppress(TrialInvalid), self._ground.profiled(folder):
                short = [wish.within(PROFILED_S, MOST_QUADS) for wish in wishes]
                _pair(self._ground, short, [], self._profile, self._rng)
            return {one.key: slower_functions(one.key, folder / "base", folder / "head", trees) for one in wishes}


def _pair(ground: "_Ground", chosen: Sequence[Wish], then: Sequence[Wish], profile: str, rng: random.Random) -> Pair:
    pair = Pair()
    with ground.arms_running(chosen, profile, rng) as (base, head):
        pair.idle_s = ground.idle_s
        there = set(base.collected) & set(head.collected)
        for wish in chosen:
            if wish.key not in there:
                pair.failures[wish.key] = "; ".join(filter(None, (arm.why_not_there(wish.key) for arm in (base, head))))
        wanted = [wish for wish in chosen if wish.key in there]
        for arm in (base, head):
            arm.tell(order=[wish.key for wish in wanted])
        if then:
            ground.start_ahead(then, profile, rng)
        for wish in wanted:
            differences, samples_s = _in_turns(base, head, wish, rng)
            ends = {arm.arm.name: arm.end(wish.key) for arm in (base, head)}
            if why := [f"in {name}: {outcome}" for name, outcome in ends.items() if outcome]:
                pair.failures[wish.key] = "; ".join(why)
            elif differences:
                pair.block_differences[wish.key], pair.samples_s[wish.key] = differences, samples_s
            else:
                pair.failures[wish.key] = "too short for the clock: it measured 0"
    return pair


def _in_turns(
    base: "_ArmProcess", head: "_ArmProcess", wish: Wish, rng: random.Random
) -> tuple[list[float], tuple[list[float], list[float]]]:
    """By how much head was slower in each block than base beside it, and what each sample took in base and in head.

    In quads of blocks, so that either order is that of half the neighbours. Nothing where either arm skips or fails it.
    """
    nothing: tuple[list[float], tuple[list[float], list[float]]] = [], ([], [])
    ready = [arm.begins(wish.key) for arm in (base, head)]
    if not all(ready):
        return nothing
    if not all(arm.block(wish.warm_up, 0) for arm in (base, head)):
        return nothing
    differences: list[float] = []
    samples_s: dict[_ArmProcess, list[float]] = {base: [], head: []}
    for _ in range(wish.quads):
        first, second = (base, head) if rng.random() < 0.5 else (head, base)
        figures: dict[_ArmProcess, list[float]] = {base: [], head: []}
        for arm in (first, second, second, first):
            began_s = time.monotonic()
            block = arm.block(wish.samples, wish.unused)
            if not block:
                return nothing
            figures[arm].append(figure(block))
            samples_s[arm] += block
            time.sleep(rest_s(time.monotonic() - began_s))
        if all(figures[base] + figures[head]):
            differences += block_differences(figures[base], figures[head])
    return differences, (samples_s[base], samples_s[head])


class _ArmProcess:
    """One fresh process of one arm."""

    def __init__(
        self,
        arm: Arm,
        command: Sequence[str],
        environ: Mapping[str, str],
        scrub: Callable[[str], str],
        start_limit_s: float,
    ) -> None:
        self.arm = arm
        self._scrub = scrub
        self._answer_limit_s = max(ANSWER_LIMIT_S, start_limit_s)
        self.collected: list[str] = []
        self.served: list[str] = []
        """Of those collected, which use the application or a process beside it."""
        self.errors: list[str] = []
        """Why files could not be collected."""
        self.origins: dict[str, str] = {}
        self._over: dict[str, str] = {}
        self._begun = ""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [str(arm.python), *command, f"--perf-arm={theirs.fileno()}"],
                cwd=arm.root,
                env=dict(environ),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        self._line = Line(ours)

    def tell(self, **message: object) -> None:
        """Send it a message; raises TrialInvalid where it has ended."""
        try:
            self._line.send(**message)
        except LineClosed:
            raise self._ended() from None

    def listen(self) -> None:
        """Wait until it has collected its tests and started what they need."""
        message = self._receive()
        if message.collected is None:
            raise self._unexpected(message)
        self.collected, self.served = message.collected, message.served
        self.errors, self.origins = message.errors, message.origins

    def why_not_there(self, key: str) -> str:
        """Why a test is not among those collected; "" where it is."""
        if key in self.collected:
            return ""
        file = key.partition("::")[0]
        error = next((error for error in self.errors if file in error.partition("\n")[0]), "it is not there")
        return f"in {self.arm.name}: {' '.join(error.split())}"

    def begins(self, key: str) -> bool:
        """Wait until it begins to measure; False where the test has ended without."""
        message = self._receive()
        self._answer_limit_s = ANSWER_LIMIT_S
        if message.over:
            self._over[message.over] = _outcome(message)
        elif message.at != key:
            raise self._unexpected(message)
        self._begun = message.at
        return bool(self._begun)

    def block(self, samples: int, unused: int) -> list[float] | None:
        """One turn: what each sample took after those unused, in seconds per operation; None where the test has ended
        instead.
        """
        self.tell(samples=samples, unused=unused)
        message = self._receive()
        if message.over:
            self._over[message.over], self._begun = _outcome(message), ""
        elif message.block_s is None:
            raise self._unexpected(message)
        return message.block_s

    def end(self, key: str) -> str:
        """Let the test come to its end; returns why it did not pass."""
        if self._begun:
            self.tell(end=True)
            self._begun = ""
        while key not in self._over:
            message = self._receive()
            if not message.over:
                raise self._unexpected(message)
            self._over[message.over] = _outcome(message)
        return self._over[key]

    def leave(self, limit_s: float) -> None:
        """Wait until it has ended, having stopped what it started; raises TrialInvalid where it does not, or dies."""
        try:
            code = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise self._invalid(f"it has not ended for {limit_s:g} s, with nothing left to do") from None
        if code not in CAME_TO_ITS_END:
            raise self._invalid(f"it ended with exit code {code}")

    def pin(self, cores: Collection[int]) -> None:
        """Let it and what it has started run on these cores, until it has been told what to measure."""
        set_affinity([process.pid for process in tree(self._process.pid)], cores)

    def dismiss(self) -> None:
        """Tell it to end, whatever it does, without waiting for that."""
        self._line.close()
        if self._process.poll() is None:
            self._process.terminate()

    def close(self) -> None:
        """End it with all its children."""
        self.dismiss()
        if self._process.poll() is None:
            processes = tree(self._process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_LIMIT_S)
            signal_all(processes, signal.SIGKILL)
            self._process.wait()
        self._log.close()

    def _receive(self) -> "_Message":
        try:
            return msgspec.convert(self._line.receive(self._answer_limit_s), _Message)
        except LineClosed:
            raise self._ended() from None
        except TimeoutError:
            raise self._invalid(f"it has not answered for {self._answer_limit_s:g} s") from None
        except (ValueError, msgspec.ValidationError) as error:
            raise self._invalid(f"it sent what is no message: {error}") from None

    def _ended(self) -> TrialInvalid:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_LIMIT_S)
        code = self._process.poll()
        return self._invalid("it closed the line to us" if code is None else f"it ended with exit code {code}")

    def _unexpected(self, message: "_Message") -> TrialInvalid:
        said = {name: value for name, value in msgspec.structs.asdict(message).items() if value}
        return self._invalid(f"it was not its turn to say {str(said)[:MOST_TOLD]}")

    def _invalid(self, what: str) -> TrialInvalid:
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
        lines = self._scrub(self._log.read().decode(errors="replace")).rstrip().splitlines()[-LOG_LINES:]
        told = "\n".join([f"the arm {self.arm.name} failed: {what}; its last output:", *lines])
        return TrialInvalid(told, arm=self.arm.name)


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    """What an arm says: turns.py has the table."""

    collected: list[str] | None = None
    served: list[str] = []
    errors: list[str] = []
    origins: dict[str, str] = {}
    at: str = ""
    block_s: list[float] | None = None
    over: str = ""
    outcome: str = ""
    message: str = ""


def _outcome(message: _Message) -> str:
    """Why a test did not pass, in a line; "" where it did."""
    if message.outcome == "passed":
        return ""
    lines = [line for line in message.message.splitlines() if line.strip()]
    errors = [line[1:].strip() for line in lines if line.startswith("E ")]  # as pytest shows what was raised
    return f"{message.outcome}: {(errors[:1] or lines[-1:] or [''])[0]}"


@dataclass
class _Started:
    """Both arms of one pair."""

    round: int
    arms: list[_ArmProcess]
    wishes: Sequence[Wish]
    """What they have been told of."""

    def serves(self, wishes: Sequence[Wish]) -> bool:
        """Whether these can be measured in them."""
        told = {(wish.key, wish.slow_down, wish.slowed_in) for wish in self.wishes}
        return told >= {(wish.key, wish.slow_down, wish.slowed_in) for wish in wishes}


class _Ground:
    """What both arms stand on: the core, and servers with a database for each arm."""

    def __init__(self, settings: Settings, arms: Arms, core: int | None, backends: Mapping[str, str]) -> None:
        self.arms = arms
        self._core = core
        self._services = Services(_for_both(settings), arms.head.root, preferred=backends)
        # Until it has answered for the first time, an arm may take as long as what it starts is allowed to.
        processes = [process for process in (settings.app, *settings.processes.values()) if process]
        self._start_limit_s = max([process.ready_limit_s for process in processes], default=0.0)
        if settings.prepare and processes:
            self._start_limit_s += settings.ready_limit_s
        self._prepared = False
        self._round = 0
        """Of ROUNDS: that of the arms started last."""
        self._leaving: list[_Started] = []
        self._ahead: _Started | None = None
        """The arms of the next pair, where they have been started already."""
        self.idle_s = 0.0
        """How long those of the last pair, if started ahead, were still waited for."""
        self._profile_into: Path | None = None
        self._note_reads_into: Path | None = None
        self.unreached: set[str] = set()
        """Keys of the benchmarks that run the same in both arms, as was seen in the rehearsal."""
        self._always = [PREPARE] if settings.prepare else []
        """Beside the tests' process: those that any benchmark depends on, and all where an application is served."""
        self._served_by = [*self._always, *(["app"] if settings.app else []), *settings.processes]

    def __enter__(self) -> "_Ground":
        try:
            self._services.begin()
            self._services.wait_ready()
        except (NotReady, ServiceError) as error:
            self._services.stop()
            raise TrialInvalid(self._services.scrub(str(error))) from None
        except BaseException:
            self._services.stop()
            raise
        if self._core is not None:
            for service in self._services.running():
                service.pin({self._core})
        # What both arms wait for; themselves, they inherit it.
        take_precedence([os.getpid(), *(pid for service in self._services.running() for pid in service.pids())])
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        give_way([os.getpid()])
        try:
            self._dismiss_ahead()
            self._settle(patient=kind is None)
        finally:
            self._settle(patient=False)
            self._services.stop()

    def _settle(self, *, round_: int | None = None, patient: bool = True) -> None:
        """See arms go whose pair is over, of one round or all; raises TrialInvalid where one does not."""
        for started in [one for one in self._leaving if round_ in (one.round, None)]:
            self._leaving.remove(started)
            with contextlib.ExitStack() as stack:
                for arm in started.arms:
                    stack.callback(arm.close)
                if patient:
                    for arm in started.arms:
                        arm.leave(LEAVE_LIMIT_S)

    def _dismiss_ahead(self) -> None:
        """End the arms of a next pair that does not come."""
        started, self._ahead = self._ahead, None
        for end in (_ArmProcess.dismiss, _ArmProcess.close):
            for arm in started.arms if started else ():
                end(arm)

    def _fill_redis(self) -> None:
        """Empty the databases of this round, and copy what was prepared."""
        if self._services.redis is None:
            return
        import redis  # only where it is wanted: it may have been left out

        address = self._services.redis.address
        for numbers in REDIS_NUMBERS.values():
            prepared, number = numbers[-1], numbers[self._round]
            try:
                with redis.Redis.from_url(address.with_database(str(number)).url) as client:
                    client.flushdb()
                with redis.Redis.from_url(address.with_database(str(prepared)).url) as client:
                    pipeline = client.pipeline(transaction=False)
                    for key in client.scan_iter(count=1000):
                        pipeline.copy(key, key, destination_db=number, replace=True)
                    pipeline.execute()
            except redis.RedisError as error:
                raise TrialInvalid(f"database {number} of Redis can't be filled: {describe(error)}") from None

    def _make_databases(self) -> None:
        for name in ("base", "head"):
            copied = f'TEMPLATE "perf_{name}_prepared"' if self._prepared else ""
            self._sql(f'DROP DATABASE IF EXISTS "{self._database(name)}" WITH (FORCE)')
            self._sql(f'CREATE DATABASE "{self._database(name)}" {copied}')

    def _database(self, arm: str) -> str:
        return f"perf_{arm}_{self._round}"

    def rehearse(self, wishes: Sequence[Wish], profile: str) -> None:
        """Start both arms once without measuring: what they import is looked at, and their databases prepared.

        Where something that differs may be read by some alone, each benchmark is run to see by which. Raises
        TrialInvalid, and NoBase where it is the base that can't be run.
        """
        try:
            with tempfile.TemporaryDirectory(prefix="perf-reads-") as folder:
                self._note_reads_into = Path(folder)
                self._rehearse(wishes, profile)
        except TrialInvalid as error:
            if error.arm == "base":
                raise NoBase(f"the base can't be run: {error}") from None
            raise
        finally:
            self._note_reads_into = None

    def _rehearse(self, wishes: Sequence[Wish], profile: str) -> None:
        with self.arms_running(wishes, profile, random.Random(), prepare=True) as both:
            for arm in both:
                if strange := foreign(arm.origins, arm.arm.tree):
                    raise TrialInvalid(
                        f"the arm {arm.arm.name} imports from outside its own tree: {', '.join(strange)}"
                    )
            keys = {wish.key for wish in wishes} - CONTROLS.keys()
            there = [key for key in both[0].collected if key in keys and key in both[1].collected]
            changed = {arm.arm.name: changed_paths(arm.arm, self.arms) for arm in both}
            order = [] if nothing_differs(self.arms) or self._reached(changed, self._always) else there
            for arm in both:
                arm.tell(order=order)
            ends = {key: [arm.end(key) for arm in both] for key in order}
            for arm in both:
                arm.leave(max(LEAVE_LIMIT_S, self._start_limit_s))
        self._settle()
        passed = {key for key, why_not in ends.items() if not any(why_not)}
        served = passed.intersection(*(arm.served for arm in both))
        for names, keys in (self._always, passed - served), (self._served_by, served):
            if keys and not self._reached(changed, names):
                self.unreached |= keys
        for name in ("base", "head"):
            self._sql(f'ALTER DATABASE "{self._database(name)}" RENAME TO "perf_{name}_prepared"')
        self._prepared = True

    def _reached(self, changed: Mapping[str, set[Path] | None], names: Sequence[str]) -> bool:
        """Whether what has changed, by arm, was read by the tests or one of these processes there; or isn't known."""
        assert self._note_reads_into is not None
        for name, paths in changed.items():
            notes = self._note_reads_into / name
            # Both arms' tests are configured by head's.
            if (
                paths is None
                or reaches([TESTS], notes, paths - {self._configuration()})
                or reaches(names, notes, paths)
            ):
                return True
        return False

    @contextlib.contextmanager
    def arms_running(
        self,
        wishes: Sequence[Wish],
        profile: str,
        rng: random.Random,
        *,
        prepare: bool = False,
    ) -> Iterator[tuple[_ArmProcess, _ArmProcess]]:
        """Both arms, started side by side, once they are ready to measure; told to leave on the way out."""
        started, began_s = self._ahead, time.monotonic()
        if is_ahead := started is not None and started.serves(wishes):
            self._ahead = None
            for arm in started.arms:
                arm.pin(os.sched_getaffinity(0))  # nothing else is measured any more
        else:
            self._dismiss_ahead()
            started = self._start(wishes, profile, rng, prepare=prepare)
        with contextlib.ExitStack() as stack:
            for arm in started.arms:
                stack.callback(arm.close)
            for arm in started.arms:
                arm.listen()
            self.idle_s = time.monotonic() - began_s if is_ahead else 0.0
            base, head = started.arms
            yield base, head
            self._leaving.append(started)
            stack.pop_all()

    @contextlib.contextmanager
    def profiled(self, folder: Path) -> Iterator[None]:
        """The arms of the next pair run under a profiler, and write into folders of theirs in this one."""
        self._dismiss_ahead()
        self._profile_into = folder
        try:
            yield
            self._settle()
        finally:
            self._profile_into = None

    def start_ahead(self, wishes: Sequence[Wish], profile: str, rng: random.Random) -> None:
        """Start the arms of the next pair, on other cores than the one that is measured on, where there are such."""
        if self._core is not None and (others := os.sched_getaffinity(0) - {self._core}):
            self._ahead = self._start(wishes, profile, rng, cores=others)

    def _start(
        self,
        wishes: Sequence[Wish],
        profile: str,
        rng: random.Random,
        *,
        prepare: bool = False,
        cores: Collection[int] = (),
    ) -> "_Started":
        """Start both arms for these benchmarks, or for some of them, and tell them where their servers are."""
        self._round = (self._round + 1) % ROUNDS
        self._settle(round_=self._round)
        # Alike in both arms, another in each pair: the order of sets and dicts is no difference between the trees.
        hash_seed = str(rng.randrange(1, 2**32))
        started = _Started(self._round, [], wishes)
        with contextlib.ExitStack() as stack:
            for arm in (self.arms.base, self.arms.head):
                environ = {**os.environ, "PYTHONPATH": python_path(arm, self.arms), "PYTHONHASHSEED": hash_seed}
                environ |= {"PYTHONDONTWRITEBYTECODE": "", WATCHED: watched_with_us()}
                if self._profile_into:
                    (self._profile_into / arm.name).mkdir()
                    environ[PROFILE] = str(self._profile_into / arm.name)
                if self._note_reads_into:
                    (self._note_reads_into / arm.name).mkdir()
                    environ[READS] = str(self._note_reads_into / arm.name / TESTS)
                    environ["PYTHONPATH"] += f"{os.pathsep}{arm.root / AT_START}"
                environ["PATH"] = os.pathsep.join([str(arm.python.parent), environ.get("PATH", os.defpath)])
                command = self._command(arm, wishes, profile)
                process = _ArmProcess(arm, command, environ, self._services.scrub, self._start_limit_s)
                stack.callback(process.close)
                if cores:
                    process.pin(cores)
                started.arms.append(process)
            # While they start: they go on when they are told where those are.
            self._make_databases()
            self._fill_redis()
            for process in started.arms:
                process.tell(**self._told(process.arm, wishes, prepare))
            stack.pop_all()
        return started

    def _command(self, arm: Arm, wishes: Sequence[Wish], profile: str) -> list[str]:
        suite = Path("tests/performance")
        files = dict.fromkeys(str(suite / wish.key.partition("::")[0]) for wish in wishes)
        command = ["-m", "pytest", *files, "-q", "--no-header", "-s", "-p", PLUGIN, f"--perf-profile={profile}"]
        command += ["--continue-on-collection-errors", *(part for name in NOT_IN_ARMS for part in ("-p", f"no:{name}"))]
        # Head's configuration of pytest for both; where to import from is said by PYTHONPATH alone.
        configuration = self._configuration()
        command += [f"-c={configuration}"] if configuration else []
        # As pytest does by itself, no conftest.py above a configuration that is the suite's own.
        top = arm.root / suite if configuration and configuration.parent == self.arms.head.root / suite else arm.root
        return [*command, "-o", "pythonpath=", f"--rootdir={arm.root}", f"--confcutdir={top}"]

    def _configuration(self) -> Path | None:
        """The file that pytest is configured by."""
        folders = [self.arms.head.root / "tests/performance", self.arms.head.root]
        found = (folder / name for folder in folders for name in PYTEST_FILES if is_of_pytest(folder / name))
        return next(found, None)

    def _told(self, arm: Arm, wishes: Sequence[Wish], prepare: bool) -> dict[str, object]:
        servers = {}
        if self._services.redis is not None:
            address = self._services.redis.address
            number = REDIS_NUMBERS[arm.name][-1 if prepare else self._round]
            servers["redis"] = msgspec.to_builtins(address.with_database(str(number)))
        if self._services.postgres is not None:
            address = self._services.postgres.address
            servers["postgres"] = msgspec.to_builtins(address.with_database(self._database(arm.name)))
        return {
            "servers": servers,
            "prefix": f"perf:{arm.name}:" if "redis" in servers else "",  # elsewhere keys are removed by the arm's own
            "core": None if self._note_reads_into else self._core,
            "rehearses": self._note_reads_into is not None,
            "prepare": prepare or self._services.postgres is None,
            "keys": [wish.key for wish in wishes],
            "modules": self.arms.modules,
            "slow_down": {
                wish.key: (wish.slow_down if arm.name == "head" else 0.0, wish.slowed_in)
                for wish in wishes
                if wish.slow_down
            },
        }

    def _sql(self, statement: str) -> None:
        if self._services.postgres is None:
            return
        import asyncpg

        url = self._services.postgres.address.url

        async def work() -> None:
            connection = await asyncpg.connect(url, timeout=SQL_LIMIT_S)
            try:
                await connection.execute(statement, timeout=SQL_LIMIT_S)
            finally:
                await connection.close(timeout=1)

        try:
            run_alone(work, SQL_LIMIT_S)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise TrialInvalid(f"{statement} failed: {describe(error)}") from None


def is_of_pytest(path: Path) -> bool:
    """Whether it is there, and other than a pyproject.toml that says nothing of pytest."""
    return path.is_file() and (path.name != "pyproject.toml" or "pytest" in read_toml(path).get("tool", {}))


def _for_both(settings: Settings) -> Settings:
    """The settings of what both arms share: with room for all arms that are there at once.

    External servers are off, as the arms find those for themselves.
    """
    redis, postgres = settings.redis, settings.postgres
    databases = max(REDIS_DATABASES, int(redis.config.get("databases", 0)))
    redis = msgspec.structs.replace(redis, config={**redis.config, "databases": databases})
    connections = 2 * ROUNDS * int(postgres.config.get("max_connections", POSTGRES_CONNECTIONS))
    postgres = msgspec.structs.replace(postgres, config={**postgres.config, "max_connections": connections})
    if settings.backend("redis") == "external":
        redis = msgspec.structs.replace(redis, backend="off")
    if settings.backend("postgres") == "external":
        postgres = msgspec.structs.replace(postgres, backend="off")
    return msgspec.structs.replace(settings, redis=redis, postgres=postgres)


def shared_by_arms(settings: Settings) -> list[str]:
    """What base and head have in common against our will, in sentences for the reader."""
    tables = [settings.env, *(one.env for one in (settings.app, *settings.processes.values()) if one)]
    named = [(key, placeholders(text), "://" in text) for table in tables for key, text in table.items()]
    everything = set().union(*(names for _, names, _ in named))
    if "redis.prefix" in everything:
        return []
    shared = []
    if settings.backend("redis") == "external":
        shared.append("Redis is external, and base and head use the same database of it")
    elif settings.backend("redis") != "off":
        for key, names, is_url in named:
            itself = names if is_url else everything
            if "redis.host" in names and not itself & {"redis.database", "redis.url"}:
                shared.append(f"{key} names no {{redis.database}}, so base and head use the same one")
    return [f"{text}: what one writes under a key of a fixed name, the other reads" for text in shared]
