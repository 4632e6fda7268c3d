"""What the two sides of a paired comparison stand on: the core, servers with a database for each, and their processes.

The processes of one pair are measured while those of the last ones leave and those of the next one start.
"""

import contextlib
import os
import random
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from plumbline.comparing.statistics.controls import CONTROLS, is_control
from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.statistics.plan import BenchmarkPlan
from plumbline.comparing.trees.affected import PREPARE, affected, may_make
from plumbline.comparing.trees.at_start._plumbline_trace import TESTS, TRACE
from plumbline.comparing.trees.changed_functions import Changed
from plumbline.comparing.trees.changed_paths import changed_paths
from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.lock_files import read_toml
from plumbline.comparing.trees.sides import Side, Sides, foreign, nothing_differs, python_path
from plumbline.comparing.trees.trace import AT_START, open_traces
from plumbline.comparing.workers.process import LEAVE_LIMIT_S, WorkerProcess
from plumbline.comparing.workers.protocol import PROFILE
from plumbline.measuring.cpu_affinity import give_way, take_precedence
from plumbline.results.environment import WATCHED, watched_with_us
from plumbline.services import ServiceError, Services
from plumbline.services.readiness import NotReady, describe, run_alone
from plumbline.settings import Settings

PYTEST_FILES = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
NOT_IN_WORKERS = ("cacheprovider", "unraisableexception", "valkey")
"""Plugins that take a tenth of a side's time to import, or to collect garbage at its end."""
PLUGIN = "plumbline"
SQL_LIMIT_S = 30.0
ROUNDS = 4
"""Databases of a side, taken by turns: while those of one pair are measured, those of the last two leave and those of
the next one start."""
REDIS_NUMBERS = {"base": (1, 3, 5, 7, 9), "head": (2, 4, 6, 8, 10)}
"""Of a side's Redis databases: those of the rounds, and one that was prepared. The first, 0, is nobody's."""
REDIS_DATABASES = 11
POSTGRES_CONNECTIONS = 100
"""What PostgreSQL allows by default, and so what each of the sides may expect that are there at once."""


@dataclass
class Started:
    """Both sides of one pair."""

    round: int
    sides: list[WorkerProcess]
    plans: Sequence[BenchmarkPlan]
    """What they have been told of."""

    def serves(self, plans: Sequence[BenchmarkPlan]) -> bool:
        """Whether these can be measured in them."""
        told = {(plan.key, plan.slow_down, plan.slowed_in) for plan in self.plans}
        return told >= {(plan.key, plan.slow_down, plan.slowed_in) for plan in plans}


class PairServers:
    """What both sides stand on: the core, and servers with a database for each side."""

    def __init__(self, settings: Settings, sides: Sides, core: int | None, backends: Mapping[str, str]) -> None:
        self.sides = sides
        self._core = core
        self._services = Services(settings_of_both(settings), sides.head.root, preferred=backends)
        # Once its tests are imported, a side may take as long as what it starts is allowed to.
        processes = [process for process in (settings.app, *settings.processes.values()) if process]
        self._start_limit_s = max([process.ready_limit_s for process in processes], default=0.0)
        if settings.prepare and processes:
            self._start_limit_s += settings.ready_limit_s
        self._prepared = False
        self._round = 0
        """Of ROUNDS: that of the sides started last."""
        self._leaving: list[Started] = []
        self._ahead: Started | None = None
        """The sides of the next pair, where they have been started already."""
        self.idle_s = 0.0
        """How long those of the last pair, if started ahead, were still waited for."""
        self._profile_into: Path | None = None
        self._note_reads_into: Path | None = None
        self.unaffected: set[str] = set()
        """Keys of the benchmarks that run the same in both sides, as was seen in the rehearsal."""
        self._always = [PREPARE] if settings.prepare else []
        """Beside the tests' process: those that any benchmark depends on, and all where an application is served."""
        self._served_by = [*self._always, *(["app"] if settings.app else []), *settings.processes]

    def __enter__(self) -> "PairServers":
        try:
            self._services.begin()
            self._services.wait_ready()
        except (NotReady, ServiceError) as error:
            self._services.stop()
            raise ComparisonInvalid(self._services.scrub(str(error))) from None
        except BaseException:
            self._services.stop()
            raise
        if self._core is not None:
            for service in self._services.running():
                service.pin({self._core})
        # What both sides wait for; themselves, they inherit it.
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
        """See sides go whose pair is over, of one round or all; raises ComparisonInvalid where one does not."""
        for started in [one for one in self._leaving if round_ in (one.round, None)]:
            self._leaving.remove(started)
            with contextlib.ExitStack() as stack:
                for side in started.sides:
                    stack.callback(side.close)
                if patient:
                    for side in started.sides:
                        side.leave(LEAVE_LIMIT_S)

    def _dismiss_ahead(self) -> None:
        """End the sides of a next pair that does not come."""
        started, self._ahead = self._ahead, None
        for end in (WorkerProcess.dismiss, WorkerProcess.close):
            for side in started.sides if started else ():
                end(side)

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
                raise ComparisonInvalid(f"database {number} of Redis can't be filled: {describe(error)}") from None

    def _make_databases(self) -> None:
        for name in ("base", "head"):
            copied = f'TEMPLATE "perf_{name}_prepared"' if self._prepared else ""
            self._sql(f'DROP DATABASE IF EXISTS "{self._database(name)}" WITH (FORCE)')
            self._sql(f'CREATE DATABASE "{self._database(name)}" {copied}')

    def _database(self, side: str) -> str:
        return f"perf_{side}_{self._round}"

    def rehearse(self, plans: Sequence[BenchmarkPlan], profile: str) -> None:
        """Start both sides once without measuring: what they import is looked at, and their databases prepared.

        Where something that differs may act for some alone, each benchmark is run to see for which: twice where that is
        seen by the functions that run. Raises ComparisonInvalid, and NoBase where it is the base that can't be run.
        """
        try:
            with tempfile.TemporaryDirectory(prefix="perf-reads-") as folder:
                changed = changed_paths(self.sides)
                for name, paths in changed.items():
                    open_traces(Path(folder, name), paths or {})
                self._note_reads_into = Path(folder)
                self._rehearse(plans, profile, changed)
        except ComparisonInvalid as error:
            if error.side == "base":
                raise NoBase(f"the base can't be run: {error}") from None
            raise
        finally:
            self._note_reads_into = None

    def _rehearse(self, plans: Sequence[BenchmarkPlan], profile: str, changed: Mapping[str, Changed | None]) -> None:
        with self.workers_running(plans, profile, random.Random(), prepare=True) as both:
            for side in both:
                if strange := foreign(side.origins, side.side.tree):
                    raise ComparisonInvalid(
                        f"the side {side.side.name} imports from outside its own tree: {', '.join(strange)}"
                    )
            keys = {plan.key for plan in plans} - CONTROLS.keys()
            there = [key for key in both[0].collected if key in keys and key in both[1].collected]
            served = {*both[0].served}.intersection(both[1].served)
            if nothing_differs(self.sides) or self._affected(changed, self._always) is None:
                there = []
            twice = [self._may_make(changed, names) for names in (self._always, self._served_by)]
            again = [key for key in there if twice[key in served]]
            # pytest leaves set up what is to run next, so no test may follow upon itself.
            order = [*there, next(iter(CONTROLS)), *again] if again else there
            for side in both:
                side.tell(order=order)
            failed = set()
            for key in order:
                ends = [side.end(key) for side in both]
                failed |= {key} if any(ends) else set()
            for side in both:
                side.leave(max(LEAVE_LIMIT_S, self._start_limit_s))
        self._settle()
        passed = {*there} - failed
        for names, keys in (self._always, passed - served), (self._served_by, passed & served):
            if keys and (those := self._affected(changed, names)) is not None:
                self.unaffected |= keys - those
        for name in ("base", "head"):
            self._sql(f'ALTER DATABASE "{self._database(name)}" RENAME TO "perf_{name}_prepared"')
        self._prepared = True

    def _may_make(self, changed: Mapping[str, Changed | None], names: Sequence[str]) -> bool:
        """Whether functions that differ may make something that stays, where not all are affected anyway."""
        assert self._note_reads_into is not None
        notes = self._note_reads_into
        makes = any(may_make([TESTS, *names], notes / name, paths or {}) for name, paths in changed.items())
        return makes and self._affected(changed, names) is not None

    def _affected(self, changed: Mapping[str, Changed | None], names: Sequence[str]) -> set[str] | None:
        """The benchmarks for which what has changed, by side, acts in the tests or one of these processes; None for all
        that depend on them.
        """
        assert self._note_reads_into is not None
        found: set[str] = set()
        configuration = self._configuration()  # both sides' tests are configured by head's
        for name, paths in changed.items():
            if paths is None:
                return None
            of_tests = {path: functions for path, functions in paths.items() if path != configuration}
            for processes, those in ([TESTS], of_tests), (names, paths):
                keys = affected(processes, self._note_reads_into / name, those)
                if keys is None:
                    return None
                found |= keys
        return found

    @contextlib.contextmanager
    def workers_running(
        self,
        plans: Sequence[BenchmarkPlan],
        profile: str,
        rng: random.Random,
        *,
        prepare: bool = False,
    ) -> Iterator[tuple[WorkerProcess, WorkerProcess]]:
        """Both sides, started side by side, once they are ready to measure; told to leave on the way out."""
        started, began_s = self._ahead, time.monotonic()
        if is_ahead := started is not None and started.serves(plans):
            self._ahead = None
            for side in started.sides:
                side.pin(os.sched_getaffinity(0))  # nothing else is measured any more
        else:
            self._dismiss_ahead()
            started = self._start(plans, profile, rng, prepare=prepare)
        with contextlib.ExitStack() as stack:
            for side in started.sides:
                stack.callback(side.close)
            for side in started.sides:
                side.listen()
            self.idle_s = time.monotonic() - began_s if is_ahead else 0.0
            base, head = started.sides
            yield base, head
            self._leaving.append(started)
            stack.pop_all()

    @contextlib.contextmanager
    def profiled(self, folder: Path) -> Iterator[None]:
        """The sides of the next pair run under a profiler, and write into folders of theirs in this one."""
        self._dismiss_ahead()
        self._profile_into = folder
        try:
            yield
            self._settle()
        finally:
            self._profile_into = None

    def start_ahead(self, plans: Sequence[BenchmarkPlan], profile: str, rng: random.Random) -> None:
        """Start the sides of the next pair, on other cores than the one that is measured on, where there are such."""
        if self._core is not None and (others := os.sched_getaffinity(0) - {self._core}):
            self._ahead = self._start(plans, profile, rng, cores=others)

    def _start(
        self,
        plans: Sequence[BenchmarkPlan],
        profile: str,
        rng: random.Random,
        *,
        prepare: bool = False,
        cores: Collection[int] = (),
    ) -> Started:
        """Start both sides for these benchmarks, or for some of them, and tell them where their servers are."""
        self._round = (self._round + 1) % ROUNDS
        self._settle(round_=self._round)
        # Alike in both sides, another in each pair: the order of sets and dicts is no difference between the trees.
        hash_seed = str(rng.randrange(1, 2**32))
        started = Started(self._round, [], plans)
        with contextlib.ExitStack() as stack:
            for side in (self.sides.base, self.sides.head):
                environ = {**os.environ, "PYTHONPATH": python_path(side, self.sides), "PYTHONHASHSEED": hash_seed}
                environ |= {"PYTHONDONTWRITEBYTECODE": "", WATCHED: watched_with_us()}
                if self._profile_into:
                    (self._profile_into / side.name).mkdir()
                    environ[PROFILE] = str(self._profile_into / side.name)
                if self._note_reads_into:
                    environ[TRACE] = str(self._note_reads_into / side.name / TESTS)
                    environ["PYTHONPATH"] = f"{AT_START}{os.pathsep}{environ['PYTHONPATH']}"
                environ["PATH"] = os.pathsep.join([str(side.python.parent), environ.get("PATH", os.defpath)])
                command = self._command(side, plans, profile)
                process = WorkerProcess(side, command, environ, self._services.scrub, self._start_limit_s)
                stack.callback(process.close)
                if cores:
                    process.pin(cores)
                started.sides.append(process)
            # While they start: they go on when they are told where those are.
            self._make_databases()
            self._fill_redis()
            for process in started.sides:
                process.tell(**self._told(process.side, plans, prepare))
            stack.pop_all()
        return started

    def _command(self, side: Side, plans: Sequence[BenchmarkPlan], profile: str) -> list[str]:
        suite = Path("tests/performance")
        files = dict.fromkeys(str(suite / plan.key.partition("::")[0]) for plan in plans if not is_control(plan.key))
        command = ["-m", "pytest", *files, "-q", "--no-header", "-s", "-p", PLUGIN, f"--perf-profile={profile}"]
        command += [
            "--continue-on-collection-errors",
            *(part for name in NOT_IN_WORKERS for part in ("-p", f"no:{name}")),
        ]
        # Head's configuration of pytest for both; where to import from is said by PYTHONPATH alone.
        configuration = self._configuration()
        command += [f"-c={configuration}"] if configuration else []
        # As pytest does by itself, no conftest.py above a configuration that is the suite's own.
        top = side.root / suite if configuration and configuration.parent == self.sides.head.root / suite else side.root
        return [*command, "-o", "pythonpath=", f"--rootdir={side.root}", f"--confcutdir={top}"]

    def _configuration(self) -> Path | None:
        """The file that pytest is configured by."""
        folders = [self.sides.head.root / "tests/performance", self.sides.head.root]
        found = (folder / name for folder in folders for name in PYTEST_FILES if is_of_pytest(folder / name))
        return next(found, None)

    def _told(self, side: Side, plans: Sequence[BenchmarkPlan], prepare: bool) -> dict[str, object]:
        servers = {}
        if self._services.redis is not None:
            address = self._services.redis.address
            number = REDIS_NUMBERS[side.name][-1 if prepare else self._round]
            servers["redis"] = msgspec.to_builtins(address.with_database(str(number)))
        if self._services.postgres is not None:
            address = self._services.postgres.address
            servers["postgres"] = msgspec.to_builtins(address.with_database(self._database(side.name)))
        return {
            "servers": servers,
            "prefix": f"perf:{side.name}:"
            if "redis" in servers
            else "",  # elsewhere keys are removed by the side's own
            "core": None if self._note_reads_into else self._core,
            "rehearses": self._note_reads_into is not None,
            "prepare": prepare or self._services.postgres is None,
            "keys": [plan.key for plan in plans],
            "modules": self.sides.modules,
            "slow_down": {
                plan.key: (plan.slow_down if side.name == "head" else 0.0, plan.slowed_in)
                for plan in plans
                if plan.slow_down
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
            raise ComparisonInvalid(f"{statement} failed: {describe(error)}") from None


def is_of_pytest(path: Path) -> bool:
    """Whether it is there, and other than a pyproject.toml that says nothing of pytest."""
    return path.is_file() and (path.name != "pyproject.toml" or "pytest" in read_toml(path).get("tool", {}))


def settings_of_both(settings: Settings) -> Settings:
    """The settings of what both sides share: with room for all sides that are there at once.

    External servers are off, as the sides find those for themselves.
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
