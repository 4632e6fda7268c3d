"""Nothing is left behind, even if the run, its reaper, or the process that started the run is killed."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis

from plumbline import held
from plumbline.processes import host_name
from plumbline.services.docker_engine import Engine
from plumbline.services.errors import Unavailable
from plumbline.services.reaper import LABEL, RUN_VARIABLE
from plumbline.services.run import ServiceRun, sweep
from plumbline.services.services import Services
from plumbline.settings import Settings
from tests.support.fixtures import ROOT, MakeServices, Until
from tests.unit.services.test_embedded import is_alive, query, server

OWNER = """
import os, pathlib, subprocess, sys, time
from plumbline.services.services import Services
from plumbline.settings_file import load_settings
services = Services(load_settings(pathlib.Path(sys.argv[1])), pathlib.Path.cwd())
services.begin()
services.wait_ready()
children = {**os.environ, **{k: v for k, v in services.environment().items() if v}}
stray = subprocess.Popen(["sleep", "600"], env=children, start_new_session=True)
pids = [pid for service in services.running() for pid in service.pids()]
run = services._run
shown = [run.id, run._reaper.pid, run.directory, ",".join(map(str, [*pids, stray.pid]))]
print(*shown, flush=True)
time.sleep(600)
"""


class Owner:
    """A run in its own process, with servers and one unregistered process."""

    def __init__(self, settings: Path, **environ: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(settings)],
            cwd=ROOT,
            env={**os.environ, **environ},
            stdout=subprocess.PIPE,
            text=True,
            # In its own process group: the kernel sends SIGHUP to stopped members of an orphaned group.
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.run, reaper, directory, pids = self.process.stdout.readline().split()
        self.reaper = int(reaper)
        self.directory = Path(directory)
        self.pids = [int(pid) for pid in pids.split(",")]
        self.record = Path(os.environ["XDG_CACHE_HOME"]) / "plumbline" / "runs" / f"{self.run}.json"
        # The record of a run that was killed while it wrote.
        self.half_record = self.record.with_suffix(".making")
        self.lock = self.record.with_suffix(".lock")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def kill_with_reaper(self) -> None:
        """Kill both and wait for the reaper's last thread, which holds the run's lock."""
        os.kill(self.reaper, signal.SIGKILL)
        self.kill()
        free = False
        while not free:
            with held.unless_held(self.lock) as free:
                time.sleep(0.01)

    def left(self) -> list[object]:
        """Return the remains of the run."""
        found: list[object] = [pid for pid in [*self.pids, self.reaper] if is_alive(pid)]
        found += [path for path in (self.directory, self.record, self.half_record, self.lock) if path.exists()]
        return found


@pytest.fixture
def start_owner(cache_home: Path, tmp_path: Path, until: Until) -> Iterator[Callable[..., Owner]]:
    assert cache_home.is_dir()
    owners: list[Owner] = []

    def start(text: str = 'backend = "embedded"\n', **environ: str) -> Owner:
        settings = tmp_path / "owner.toml"
        settings.write_text(text)
        owners.append(Owner(settings, **environ))
        return owners[-1]

    yield start
    for owner in owners:
        owner.kill()
        assert owner.process.stdout is not None
        owner.process.stdout.close()
    until(lambda: not any(is_alive(owner.reaper) for owner in owners))
    sweep({})  # clean up after runs whose reaper was killed


def test_kill_of_the_run(start_owner: Callable[..., Owner], until: Until) -> None:
    """After SIGKILL, the reaper removes processes, directory, record and an incomplete record, and exits."""
    owner = start_owner()
    owner.half_record.write_text('{"run"')
    assert len(owner.left()) >= 6

    owner.kill()

    until(lambda: not owner.left())


def test_kill_of_the_run_with_paused_servers(start_owner: Callable[..., Owner], until: Until) -> None:
    """Paused processes are removed too."""
    owner = start_owner()
    for pid in owner.pids:
        os.kill(pid, signal.SIGSTOP)

    owner.kill()

    until(lambda: not owner.left())


def test_signals_of_the_terminal_do_not_end_the_reaper(start_owner: Callable[..., Owner], until: Until) -> None:
    """Ctrl-C and a closed terminal end the run. The reaper stays to clean up."""
    owner = start_owner()
    assert os.getsid(owner.reaper) != os.getsid(owner.process.pid)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(owner.reaper, number)

    owner.process.send_signal(signal.SIGINT)

    until(lambda: not owner.left() or owner.process.poll() is not None)
    until(lambda: not owner.left())


def test_signals_do_not_end_a_reaper_that_has_just_started(cache_home: Path) -> None:
    """They come before it has imported its modules."""
    assert cache_home.is_dir()
    run = ServiceRun({})
    run.begin()
    reaper = run._reaper
    assert reaper is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        reaper.send_signal(number)

    run.end()

    assert reaper.returncode == 0


def test_kill_of_run_and_reaper(start_owner: Callable[..., Owner], make_services: MakeServices, until: Until) -> None:
    """If both die, the next run cleans up and reports it."""
    owner = start_owner()
    owner.kill_with_reaper()
    assert all(is_alive(pid) for pid in owner.pids[:2])

    services = make_services('backend = "off"')
    services.begin()

    until(lambda: not owner.left())
    assert services.notices == [f"cleaned up after run {owner.run}, which was killed"]


def test_sweep_leaves_living_runs_alone(start_owner: Callable[..., Owner], make_services: MakeServices) -> None:
    """A run is not touched while it lives without its reaper, or while its reaper works."""
    owner = start_owner()
    os.kill(owner.reaper, signal.SIGKILL)

    make_services('backend = "off"').begin()

    assert all(is_alive(pid) for pid in owner.pids)
    assert owner.directory.exists()
    assert owner.record.exists()


def test_sweep_after_a_step_of_the_clock(start_owner: Callable[..., Owner], monkeypatch: pytest.MonkeyPatch) -> None:
    """A wall-clock change between two runs does not matter."""
    owner = start_owner()
    started = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: started(process) + 60)

    assert sweep({}) == []

    assert is_alive(owner.reaper)
    assert all(is_alive(pid) for pid in owner.pids)
    assert owner.record.exists()


def test_sweep_without_file_locks(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on some network file systems. It is unknown whether the run lives, so it is not touched."""
    assert cache_home.is_dir()

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        run = ServiceRun({})
        run.begin()
    assert sweep({}) == []
    assert run.directory.exists()
    run.end()
    assert not run.directory.exists()


def test_death_of_the_process_that_started_the_run(start_owner: Callable[..., Owner], until: Until) -> None:
    """The run is ended and cleaned up."""
    starter = subprocess.Popen(["sleep", "600"])
    owner = start_owner(PERF_WATCH_PIDS=f"{starter.pid},{os.getpid()}")

    starter.kill()
    starter.wait()

    until(lambda: owner.process.poll() is not None)
    assert owner.process.returncode == -signal.SIGTERM
    until(lambda: not owner.left())


def test_a_run_that_ignores_sigterm_is_killed(start_owner: Callable[..., Owner], until: Until) -> None:
    """A run that hangs is killed a few seconds after its starter has died."""
    starter = subprocess.Popen(["sleep", "600"])
    owner = start_owner(PERF_WATCH_PIDS=str(starter.pid))
    owner.process.send_signal(signal.SIGSTOP)
    # The kernel delivers the pending signal with the lowest number first: SIGTERM.
    until(lambda: psutil.Process(owner.process.pid).status() == psutil.STATUS_STOPPED)

    starter.kill()
    starter.wait()

    until(lambda: owner.process.poll() == -signal.SIGKILL)
    until(lambda: not owner.left())


def test_record_holds_no_secret(start_owner: Callable[..., Owner], cache_home: Path) -> None:
    """Passwords are sent to the reaper only over its pipe."""
    theirs = Services(Settings(backend="embedded"), ROOT, environ={})
    try:
        theirs.begin()
        theirs.wait_ready()
        urls = [server(service).address for service in (theirs.redis, theirs.postgres)]
        owner = start_owner("", PERF_REDIS_URL=urls[0].url, PERF_DATABASE_URL=urls[1].url)

        record = owner.record.read_text()
        shown = " ".join(psutil.Process(owner.reaper).cmdline()) + str(psutil.Process(owner.reaper).environ().keys())
        for address in urls:
            assert address.password not in record
            assert address.password not in shown
        kinds = sorted(thing["kind"] for thing in json.loads(record)["things"])
        assert kinds == ["database", "directory", "redis"]
    finally:
        theirs.stop()
    assert cache_home.is_dir()


@pytest.mark.parametrize("reaper", ["reaper lives", "reaper killed"])
def test_external_data_of_a_killed_run(
    start_owner: Callable[..., Owner], make_services: MakeServices, until: Until, reaper: str
) -> None:
    """The run's keys and database are removed by the reaper, or by the next run with the same URLs."""
    theirs = make_services('backend = "embedded"')
    theirs.begin()
    theirs.wait_ready()
    cache, database = server(theirs.redis).address, server(theirs.postgres).address
    urls = {"PERF_REDIS_URL": cache.url, "PERF_DATABASE_URL": database.url}
    owner = start_owner("", **urls)
    count = "SELECT count(*) FROM pg_database WHERE datname LIKE 'perf\\_%'"
    assert query(database, count) == 1
    with redis.Redis.from_url(cache.url) as client:
        client.mset({f"perf:{owner.run}:key": 1, "theirs": 1})
        owner.kill_with_reaper() if reaper == "reaper killed" else owner.kill()

        if reaper == "reaper killed":
            # A run without these URLs cannot remove them, and keeps the record.
            make_services('backend = "off"').begin()
            assert owner.record.exists()
            assert query(database, count) == 1
            make_services('backend = "external"', **urls).begin()
            assert query(database, count) == 1  # that of the new run
        else:
            until(lambda: query(database, count) == 0)

        until(lambda: client.keys("*") == [b"theirs"])
    until(lambda: not owner.left())


@pytest.mark.parametrize("reaper", ["reaper lives", "reaper killed"])
def test_containers_of_a_killed_run(
    start_owner: Callable[..., Owner], make_services: MakeServices, until: Until, reaper: str
) -> None:
    """Labelled containers are removed by the reaper, or by the next run, whatever backend that run uses."""
    engine = Engine()
    try:
        engine.require_image(Settings().redis.image)
    except Unavailable as error:
        pytest.skip(str(error))
    client = engine.client()
    owner = start_owner('backend = "docker"\npostgres.backend = "off"\n')
    label = {"label": f"{LABEL}={owner.run}"}
    assert len(client.containers.list(all=True, filters=label, ignore_removed=True)) == 1
    owner.kill_with_reaper() if reaper == "reaper killed" else owner.kill()
    if reaper == "reaper killed":
        make_services('backend = "off"').begin()

    until(lambda: client.containers.list(all=True, filters=label, ignore_removed=True) == [])
    until(lambda: not owner.left())
    engine.close()


def test_forked_child_that_keeps_the_pipe(cache_home: Path, until: Until) -> None:
    """A forked child holds the pipe open, but the reaper still notices the end of the run."""
    assert cache_home.is_dir()
    code = (
        "import os, time\nfrom plumbline.services.run import ServiceRun\nrun = ServiceRun({})\nrun.begin()\n"
        "child = os.fork()\n"
        "if child == 0: time.sleep(30); os._exit(0)\n"
        "print(child, run._reaper.pid, run.directory, flush=True)\ntime.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child, reaper, directory = process.stdout.readline().split()
        process.kill()
    try:
        until(lambda: not is_alive(int(reaper)))
        assert not Path(directory).exists()
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_a_clean_end_leaves_nothing(cache_home: Path) -> None:
    """The run waits for its reaper, which has nothing to do."""
    assert cache_home.is_dir()
    run = ServiceRun({})
    run.begin()
    reaper = run._reaper
    assert reaper is not None
    stray = subprocess.Popen(["sleep", "600"], env={**os.environ, **run.environ})

    run.end()
    run.end()

    assert reaper.returncode == 0
    assert stray.wait(10) == -signal.SIGINT
    assert not run.directory.exists()
    assert not run._record.exists()


def test_reaper_is_part_of_no_run(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a nested run, the end of the outer run does not end the inner run's reaper."""
    assert cache_home.is_dir()
    monkeypatch.setenv(RUN_VARIABLE, "outer")
    run = ServiceRun({})
    run.begin()
    try:
        assert run._reaper is not None
        assert RUN_VARIABLE not in psutil.Process(run._reaper.pid).environ()
    finally:
        run.end()


def test_a_run_without_its_reaper_still_cleans_up(make_services: MakeServices) -> None:
    services = make_services('backend = "embedded"')
    services.begin()
    services.wait_ready()
    reaper = services._run._reaper
    assert reaper is not None
    reaper.kill()
    reaper.wait()
    pids = [pid for service in services.running() for pid in service.pids()]

    services.stop()

    assert not any(is_alive(pid) for pid in pids)
    assert not services._run.directory.exists()
    assert not services._run._record.exists()


@pytest.mark.parametrize("text", ["", "{", '{"run": 1}', "[]"])
def test_sweep_ignores_an_incomplete_record(cache_home: Path, text: str) -> None:
    """A full disk may have truncated it."""
    folder = cache_home / "plumbline" / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "broken.json"
    path.write_text(text)

    assert sweep({}) == []

    path.unlink()


@pytest.mark.parametrize("name", ["mine", "plumbline-other", "plumbline-planted"])
def test_a_record_removes_only_folders_of_its_run(cache_home: Path, tmp_path: Path, name: str) -> None:
    """It may be forged or damaged: other folders and the targets of links stay."""
    folder = cache_home / "plumbline" / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    (tmp_path / "precious").mkdir()
    if name == "plumbline-planted":
        (tmp_path / name).symlink_to(tmp_path / "precious")
    else:
        (tmp_path / name).mkdir()
    thing = {"kind": "directory", "path": str(tmp_path / name)}
    path = folder / "planted.json"
    path.write_text(json.dumps({"run": "planted", "host": host_name(), "things": [thing]}))
    path.with_suffix(".lock").touch()

    sweep({})

    assert (tmp_path / name).exists()
    assert not path.exists()


def test_records_of_other_hosts_are_ignored(cache_home: Path, tmp_path: Path) -> None:
    """Machines may share a home folder, but not process ids."""
    folder = cache_home / "plumbline" / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    thing = {"kind": "directory", "path": str(tmp_path / "theirs")}
    (tmp_path / "theirs").mkdir()
    path = folder / "elsewhere.json"
    record = {"run": "elsewhere", "host": f"not-{host_name()}", "things": [thing]}
    path.write_text(json.dumps(record))
    path.with_suffix(".lock").touch()

    assert sweep({}) == []

    assert (tmp_path / "theirs").exists()
    path.unlink()
    path.with_suffix(".lock").unlink()


def test_user_modules_named_like_standard_modules_do_not_break_the_reaper(
    tmp_path: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suite may add a folder with a shutil.py to `sys.path`."""
    assert cache_home.is_dir()
    for name in ("shutil", "select"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not this one')")
    monkeypatch.syspath_prepend(tmp_path)
    run = ServiceRun()
    run.begin()
    reaper = run._reaper
    run.end()
    assert reaper is not None
    assert reaper.returncode == 0
