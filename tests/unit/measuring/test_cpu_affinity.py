import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from plumbline.measuring import cpu_affinity as pin
from plumbline.measuring.cpu_affinity import CoreLock, not_allowed, rest_s, set_precedence
from plumbline.processes import threads

LINUX = sys.platform.startswith("linux")
CORES = sorted(os.sched_getaffinity(0)) if LINUX else []
on_two_cores = pytest.mark.skipif(len(CORES) < 2, reason="pinning is for Linux, and a choice takes two cores")
as_root = pytest.mark.skipif(not LINUX or os.geteuid() != 0, reason="others may not go before the rest of the machine")
on_linux = pytest.mark.skipif(not LINUX, reason="pinning is for Linux")

TWO_THREADS = """
import sys, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""
GONE = 2**22 + 1  # above the largest process id of Linux

IDLE = "iowait" if LINUX else "idle"


@pytest.fixture
def child() -> Iterator[int]:
    """Return the id of a process with two threads."""
    with subprocess.Popen(
        [sys.executable, "-c", TWO_THREADS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[CoreLock]]:
    """Locks of cores in a folder of the test. This process has two cores. All are released at the end."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(pin, "LOAD_WINDOW_S", 1e-6)
    held: list[CoreLock] = []
    os.sched_setaffinity(0, CORES[:2])
    yield held
    os.sched_setaffinity(0, CORES)
    for lock in held:
        lock.release()


# ---- real-time priority


@on_two_cores
@as_root
def test_real_time_priority_applies_to_every_thread_until_reset(child: int) -> None:
    set_precedence([child, GONE], ahead=True)
    ahead = {os.sched_getscheduler(thread) for thread in threads([child])}

    set_precedence([child, GONE], ahead=False)

    assert ahead == {os.SCHED_RR}
    assert {os.sched_getscheduler(thread) for thread in threads([child])} == {os.SCHED_OTHER}


@on_two_cores
@as_root
def test_without_the_privilege_the_priority_stays(child: int) -> None:
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from plumbline.measuring.cpu_affinity import set_precedence\n"
        "os.setuid(65534); set_precedence([os.getpid(), int(sys.argv[2])], ahead=True)\n"
        "print(os.sched_getscheduler(0))"
    )

    done = subprocess.run([sys.executable, "-c", code, str(Path.cwd()), str(child)], capture_output=True, text=True)

    assert done.stdout.strip() == str(os.SCHED_OTHER), done.stderr
    assert os.sched_getscheduler(child) == os.SCHED_OTHER


@on_two_cores
@as_root
def test_a_process_with_real_time_priority_rests() -> None:
    """It rests more than the 5 % that the kernel would take. Other processes don't rest."""
    assert rest_s(1.0) == 0
    set_precedence([os.getpid()], ahead=True)
    try:
        assert 0.05 < rest_s(1.0) < 0.1
    finally:
        set_precedence([os.getpid()], ahead=False)


@on_two_cores
@as_root
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_of_processes_has_normal_priority(method: str) -> None:
    """Its threads would otherwise poll for 100 ms at a time, on the core that its processes need."""
    code = (
        "import multiprocessing, os\n"
        "from plumbline.measuring.cpu_affinity import set_precedence, start_children_normally\n"
        "from plumbline.processes import threads\n"
        "set_precedence([os.getpid()], ahead=True); start_children_normally()\n"
        f"with multiprocessing.get_context({method!r}).Pool(1) as pool:\n"
        "    print(pool.apply(os.sched_getscheduler, [0]), *sorted(map(os.sched_getscheduler, threads([os.getpid()]))))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    normal, ahead = os.SCHED_OTHER, os.SCHED_RR | os.SCHED_RESET_ON_FORK
    assert done.stdout.split() == [*map(str, [normal] * 4), str(ahead)], done.stderr


@on_linux
@as_root
def test_on_one_core_the_priority_stays(child: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)

    set_precedence([child], ahead=True)

    assert os.sched_getscheduler(child) == os.SCHED_OTHER


# ---- locking a core


@on_two_cores
def test_two_runs_use_different_cores_and_a_third_gives_the_reason(locks: list[CoreLock]) -> None:
    """Without a free core, the third run is not pinned."""
    locks += [CoreLock.acquire("auto") for _ in range(3)]

    assert {locks[0].core, locks[1].core} == set(CORES[:2])
    assert (locks[2].core, locks[2].why) == (None, f"another run has locked core {CORES[0]}, {CORES[1]}")


@on_two_cores
@pytest.mark.parametrize("core", CORES[:2])
def test_only_a_core_of_this_process_is_locked(locks: list[CoreLock], core: int) -> None:
    """A process that is restricted to one core uses that core or none."""
    os.sched_setaffinity(0, [core])

    locks += [CoreLock.acquire("auto") for _ in range(2)]

    assert [lock.core for lock in locks] == [core, None]


@on_two_cores
def test_a_core_that_another_process_has_locked_is_not_used(locks: list[CoreLock]) -> None:
    locks.append(CoreLock.acquire(CORES[0]))
    program = f"from plumbline.measuring.cpu_affinity import CoreLock; print(CoreLock.acquire({CORES[0]}).why)"

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )

    assert done.stdout == f"another run has locked core {CORES[0]}\n"


@on_two_cores
def test_a_released_core_can_be_locked_again(locks: list[CoreLock]) -> None:
    """Releasing it twice is harmless."""
    first = CoreLock.acquire(CORES[1])
    first.release()
    first.release()

    locks.append(CoreLock.acquire(CORES[1]))

    assert (locks[0].core, locks[0].why) == (CORES[1], "")


@on_two_cores
def test_a_core_of_the_settings_is_used(locks: list[CoreLock]) -> None:
    """Even if it is not the idlest."""
    locks += [CoreLock.acquire(core) for core in CORES[:2]]

    assert [lock.core for lock in locks] == CORES[:2]


@on_two_cores
def test_a_core_that_is_not_allowed_is_refused() -> None:
    """The message lists the allowed cores."""
    assert not_allowed(100_000) == (f"pin: this process may not use core 100000; it may use {CORES[0]}, {CORES[1]}")
    assert [not_allowed(plan) for plan in (CORES[0], CORES[1], "auto", "off")] == [""] * 4


def test_the_pin_can_be_off() -> None:
    """`off` locks nothing and gives the reason."""
    lock = CoreLock.acquire("off")

    assert (lock.core, lock.why) == (None, "pinning is off")
    lock.release()


def test_another_system_is_not_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """On other systems nothing is pinned, with the reason."""
    monkeypatch.setattr(sys, "platform", "darwin")

    lock = CoreLock.acquire("auto")

    assert (lock.core, lock.why) == (None, "pinning is not possible on darwin")


@on_two_cores
def test_without_a_cache_folder_nothing_is_pinned(
    locks: list[CoreLock], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a folder for locks, nothing is pinned, with the reason."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("plumbline", f"plumbline-{os.getuid()}"):
        (tmp_path / name).touch()

    locks.append(CoreLock.acquire("auto"))

    assert locks[0].core is None
    assert locks[0].why.startswith("no core can be locked: there is no folder for the cache: ")


@on_two_cores
def test_a_file_system_error_is_not_reported_as_another_run(locks: list[CoreLock], tmp_path: Path) -> None:
    (tmp_path / "plumbline" / "cores" / f"{CORES[0]}.lock").mkdir(parents=True)

    locks.append(CoreLock.acquire(CORES[0]))

    assert locks[0].core is None
    assert locks[0].why.startswith("no core can be locked: ")
    assert "Is a directory" in locks[0].why
    assert f"{CORES[0]}.lock" in locks[0].why


# ---- choosing a core


def idlest(
    monkeypatch: pytest.MonkeyPatch, folder: Path, busy: list[float], siblings: dict[int, str], cores: list[int]
) -> list[int]:
    """Sort cores by load on a fake machine, with loads from 0 to 1 and shared hardware threads."""
    for core, text in siblings.items():
        (folder / f"cpu{core}").write_text(f"{text}\n")
    none = type(psutil.cpu_times())(*[0.0] * len(psutil.cpu_times()))
    after = [none._replace(user=one, **{IDLE: 1 - one}) for one in busy]  # waiting for a disk is not load
    readings = [[none] * len(busy), after]
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: readings.pop(0) if percpu else None)
    monkeypatch.setattr(pin, "SIBLINGS", str(folder / "cpu{core}"))
    return pin._idlest_first(cores)


@pytest.mark.parametrize(
    ("busy", "siblings", "cores", "expected"),
    [
        ([0.9, 0.1, 0.5], {}, [0, 1, 2], [1, 2, 0]),
        ([0.0, 0.0, 0.0], {}, [0, 1, 2], [2, 1, 0]),
        ([0.1, 0.0, 0.2], {}, [0, 1, 2], [2, 1, 0]),
        ([0.0, 0.1, 0.5, 0.9], {}, [1, 3], [1, 3]),
        ([0.0, 0.5, 0.9, 0.1], {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}, [0, 1, 2, 3], [3, 1, 2, 0]),
        ([0.0, 0.9, 0.1, 0.2], {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}, [0, 2], [2, 0]),
        ([0.9, 0.1], {0: "", 1: "all"}, [0, 1], [1, 0]),
    ],
    ids=["by load", "tie", "noise", "allowed ones", "siblings listed", "siblings in a range", "unreadable siblings"],
)
def test_the_idlest_core_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    busy: list[float],
    siblings: dict[int, str],
    cores: list[int],
    expected: list[int],
) -> None:
    """Cores are sorted by their load with that of sibling threads. On a tie, the highest comes first."""
    assert idlest(monkeypatch, tmp_path, busy, siblings, cores) == expected
