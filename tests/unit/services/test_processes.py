"""Commands beside the application, and `prepare`: start, output, failures and stop."""

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from plumbline.services import application, base
from plumbline.services.address import Address
from plumbline.services.application import Process
from plumbline.services.errors import NotReady
from plumbline.services.run import ServiceRun
from plumbline.settings import ProcessSettings
from tests.support.code_under_test import LIMIT_S, failure, until

StartProcess = Callable[..., Process]


@pytest.fixture
def start_process(tmp_path: Path, run: ServiceRun) -> Iterator[StartProcess]:
    """Write `source` to worker.py and start `python worker.py`, or another command."""
    started: list[Process] = []

    def start(
        source: str = "",
        ready_output: str = "",
        command: tuple[str, ...] = ("python", "worker.py"),
        environment: dict[str, str | None] | None = None,
        scrub: Callable[[str], str] = str,
        directory: str = ".",
    ) -> Process:
        (tmp_path / "worker.py").write_text(textwrap.dedent(source), encoding="utf-8")
        settings = ProcessSettings(command=list(command), ready_output=ready_output, directory=directory)
        process = Process("worker", settings, tmp_path, environment or {}, run, scrub)
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.stop()


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


FAMILY = """
    import os, signal, subprocess, sys, time

    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    children = [
        subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE),
        subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, start_new_session=True),
    ]
    for child in children:
        child.stdout.readline()
    # Its parent, a shell, goes at once: an orphan in our process group.
    orphan = subprocess.run("sleep 600 >/dev/null & echo $!", shell=True, stdout=subprocess.PIPE).stdout
    print("family", *(child.pid for child in children), int(orphan), flush=True)
    time.sleep(600)
"""


def family(process: Process) -> list[int]:
    line = next(line for line in process.log_tail().splitlines() if line.startswith("family"))
    return [process.pids()[0], *map(int, line.split()[1:])]


@pytest.fixture
def quick_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the wait for processes that ignore SIGTERM."""
    monkeypatch.setattr(base, "STOP_LIMIT_S", 0.3)


@pytest.mark.usefixtures("quick_stop")
@pytest.mark.parametrize("paused", [False, True])
def test_stop_leaves_no_descendant(start_process: StartProcess, paused: bool) -> None:
    process = start_process(FAMILY, "family")
    process.wait_ready(LIMIT_S)
    members = family(process)
    assert set(members) <= set(process.pids())
    if paused:
        process.pause()
        assert {psutil.Process(pid).status() for pid in members} == {psutil.STATUS_STOPPED}

    process.stop()
    process.stop()

    assert not any(map(alive, members))
    assert process.pids() == []


def test_kill_ends_the_whole_tree(start_process: StartProcess) -> None:
    process = start_process(FAMILY, "family")
    process.wait_ready(LIMIT_S)
    members = family(process)

    process.kill()

    assert not any(map(alive, members))


@pytest.mark.usefixtures("quick_stop")
def test_children_of_a_crashed_process_are_stopped(start_process: StartProcess) -> None:
    process = start_process(FAMILY, "family")
    process.wait_ready(LIMIT_S)
    leader, child, elsewhere, orphan = family(process)
    psutil.Process(elsewhere).kill()
    psutil.Process(leader).kill()
    until(lambda: not process.running())

    process.stop()

    assert not alive(child)
    assert not alive(orphan)


def test_stop_lets_a_process_clean_up(start_process: StartProcess, tmp_path: Path) -> None:
    source = """
        import pathlib, signal, sys, time

        def end(*_):
            pathlib.Path("goodbye").touch()
            sys.exit()

        signal.signal(signal.SIGTERM, end)
        print("ready")
        time.sleep(600)
    """
    process = start_process(source, "ready")
    process.wait_ready(LIMIT_S)

    process.stop()

    assert (tmp_path / "goodbye").exists()
    assert process.state() == "exited with code 0"


# ---- other processes


def test_a_process_is_ready_when_its_output_contains_ready_output(start_process: StartProcess) -> None:
    process = start_process("import time; print('connecting'); print('worker ready'); time.sleep(600)", "worker ready")

    process.wait_ready(LIMIT_S)

    assert process.log_tail() == "connecting\nworker ready"


def test_a_process_without_ready_output_is_ready_once_started(start_process: StartProcess) -> None:
    start_process("import time; time.sleep(600)").wait_ready(LIMIT_S)


def test_a_process_that_exits_before_it_is_ready_is_reported_at_once(
    start_process: StartProcess, tmp_path: Path
) -> None:
    message = failure(start_process("import sys; sys.exit('no such queue')", "ready"))

    assert message.startswith("worker is not ready: exited with code 1")
    assert "| no such queue" in message
    assert f"run it by hand in {tmp_path}" in message


def test_a_process_that_is_never_ready_fails_at_the_limit(start_process: StartProcess) -> None:
    message = failure(start_process("import time; print('connecting'); time.sleep(600)", "worker ready"), limit_s=0.3)

    assert "gave up after" in message
    assert "raise ready_limit_s of [processes.worker] in settings.toml" in message
    assert "no line of its output contains 'worker ready'" in message


def test_a_missing_command_is_named(start_process: StartProcess) -> None:
    with pytest.raises(NotReady, match="no-such-command can't be started"):
        start_process(command=("no-such-command",))


def test_a_missing_folder_is_named(start_process: StartProcess) -> None:
    with pytest.raises(NotReady, match="there is no folder 'scr'"):
        start_process(directory="scr")


def test_output_is_private(start_process: StartProcess) -> None:
    """It may show passwords, and root's folder of a run is open to other users."""
    process = start_process("import time; time.sleep(600)")

    assert process._log.stat().st_mode & 0o777 == 0o600


def test_the_environment_extends_that_of_this_process(
    start_process: StartProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://staging.example/")
    monkeypatch.setenv("PGHOST", "staging.example")
    monkeypatch.setenv("KEPT", "ours")
    source = """
        import os, sys
        print(sys.executable, *(os.environ.get(name) for name in ("DATABASE_URL", "PGHOST", "KEPT", "PLUMBLINE_RUN")))
    """

    process = start_process(source, environment={"DATABASE_URL": "postgresql://ours/", "PGHOST": None})
    until(lambda: not process.running())

    assert process.log_tail() == f"{sys.executable} postgresql://ours/ None ours {process.run.id}"


def test_decisions_use_the_output_with_passwords(start_process: StartProcess) -> None:
    """A password may be part of `ready_output`, or of a known error message."""
    address = Address("redis", "127.0.0.1", 6379, password="is ready")
    source = "print('worker is ready', flush=True); import time; time.sleep(600)"
    process = start_process(source, "worker is ready", scrub=address.redact)
    process.wait_ready(20)
    assert process.log_tail() == "worker ***"

    with pytest.raises(NotReady) as failed:
        start_process("import sys; sys.exit('is ready')", "never", scrub=address.redact).wait_ready(20)
    assert "is ready" not in str(failed.value).replace("is not ready", "")
    assert failed.value.output == "is ready"


def test_passwords_of_the_services_are_hidden_in_the_output(start_process: StartProcess) -> None:
    address = Address("postgresql", "127.0.0.1", 5432, "perf", "top/secret")
    source = "import os, sys; sys.exit('cannot connect to ' + os.environ['DSN'] + ' with top/secret')"

    message = failure(start_process(source, "ready", environment={"DSN": address.url}, scrub=address.redact))

    assert "cannot connect to postgresql://perf:***@127.0.0.1:5432 with ***" in message
    assert "secret" not in message


def test_a_talkative_process_does_not_fill_the_disk(
    start_process: StartProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "LOG_LIMIT_BYTES", 100_000)
    process = start_process("for _ in range(20_000): print('x' * 99)\nprint('end')\nimport time; time.sleep(600)")
    until(lambda: process.running() and process.log_tail().endswith("end"))

    process.running()

    assert process._log.stat().st_size <= 100_000


# ---- prepare


def run_prepare(command: list[str], root: Path, limit_s: float, run: ServiceRun) -> None:
    Process("prepare", ProcessSettings(command=command), root, {}, run).run_to_end(limit_s)


def test_prepare_runs_to_its_end(tmp_path: Path, run: ServiceRun) -> None:
    run_prepare(["python", "-c", "open('migrated', 'w')"], tmp_path, LIMIT_S, run)

    assert (tmp_path / "migrated").exists()


def test_a_failing_prepare_is_reported_with_its_output(tmp_path: Path, run: ServiceRun) -> None:
    with pytest.raises(NotReady) as caught:
        run_prepare(["python", "-c", "import sys; print('relation missing'); sys.exit(7)"], tmp_path, LIMIT_S, run)

    assert "prepare is not ready: exited with code 7" in str(caught.value)
    assert "| relation missing" in str(caught.value)
    assert "next        correct `prepare` or [env] in tests/performance/settings.toml" in str(caught.value)


def test_output_of_prepare_cannot_control_a_terminal(tmp_path: Path, run: ServiceRun) -> None:
    source = r"import sys; sys.exit('\x1b]0;title\x07\x1b[31mrelation\x1b[0m missing')"

    with pytest.raises(NotReady) as caught:
        run_prepare(["python", "-c", source], tmp_path, LIMIT_S, run)

    assert "| relation missing" in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_prepare_that_hangs_is_ended_at_the_limit(tmp_path: Path, run: ServiceRun) -> None:
    source = "import time; print('locked', flush=True); time.sleep(601)"

    with pytest.raises(NotReady, match=r"still running after 0\.5 s: \S*python -c ") as caught:
        run_prepare(["python", "-c", source], tmp_path, 0.5, run)
    assert "or raise prepare_limit_s in settings.toml" in str(caught.value)

    alive = [one for one in psutil.Process().children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]
    assert not [child for child in alive if source in child.cmdline()]
