import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from plumbline.processes import (
    is_running,
    pinned_core,
    printable,
    run_command,
    set_affinity,
    threads,
    without_secrets,
)

LINUX = sys.platform.startswith("linux")
CORES = sorted(os.sched_getaffinity(0)) if LINUX else []
on_two_cores = pytest.mark.skipif(len(CORES) < 2, reason="a choice needs two cores, on Linux")
on_linux = pytest.mark.skipif(not LINUX, reason="only Linux can pin a process")

TWO_THREADS = """
import sys, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""
# Above the largest process id of Linux.
GONE = 2**22 + 1


@pytest.fixture
def child() -> Iterator[int]:
    """Return the id of a process with two threads."""
    with subprocess.Popen(
        [sys.executable, "-c", TWO_THREADS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid


@on_two_cores
@pytest.mark.parametrize("core", CORES[:2])
def test_every_thread_of_a_process_is_pinned(child: int, core: int) -> None:
    set_affinity([child], [core])

    assert [os.sched_getaffinity(thread) for thread in threads([child])] == [{core}, {core}]
    assert pinned_core([child]) == core


@on_two_cores
def test_a_process_is_moved_back_to_all_cores(child: int) -> None:
    set_affinity([child], CORES[:1])
    set_affinity([child], CORES)

    assert [os.sched_getaffinity(thread) for thread in threads([child])] == [set(CORES), set(CORES)]
    assert pinned_core([child]) is None


@on_two_cores
def test_a_process_with_one_unpinned_thread_is_not_pinned(child: int) -> None:
    set_affinity([child], [CORES[0]])
    os.sched_setaffinity(max(threads([child])), [CORES[1]])

    assert pinned_core([child]) is None


@on_two_cores
def test_processes_on_different_cores_are_not_pinned_together(child: int) -> None:
    """Client and server must share a core."""
    set_affinity([child], [CORES[0]])
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [CORES[1]])
    try:
        assert pinned_core([os.getpid(), child]) is None
    finally:
        os.sched_setaffinity(0, own)


@on_linux
def test_a_process_that_has_ended_is_skipped(child: int) -> None:
    """It does not affect the other processes."""
    set_affinity([GONE, child], CORES[:1])

    assert pinned_core([GONE, child]) == CORES[0]


@on_linux
def test_a_missing_core_is_no_error(child: int) -> None:
    """The kernel refuses it, and the core is read back."""
    before = [os.sched_getaffinity(thread) for thread in threads([child])]

    set_affinity([child], [100_000])

    assert [os.sched_getaffinity(thread) for thread in threads([child])] == before


def test_without_processes_there_is_no_core() -> None:
    assert pinned_core([]) is None
    assert pinned_core([GONE]) is None


def test_children_of_a_late_command_are_killed_with_it(tmp_path: Path) -> None:
    """As git's helpers must be."""
    child = "import time; open('pid', 'w').write(str(__import__('os').getpid())); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with pytest.raises(subprocess.TimeoutExpired):
        run_command([sys.executable, "-c", parent], limit_s=2.0, cwd=tmp_path)
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 15
    while (stat := Path(f"/proc/{pid}/stat")).exists() and " Z " not in stat.read_text():
        assert time.monotonic() < deadline, "still alive"


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("at https://me:p@ss@example.org/a/b?token=x: gone", "at https://example.org/… gone"),
        ("at 'https://example.org:8443/TOKEN/simple/' gone", "at 'https://example.org:8443/…' gone"),
        ("file:///srv/x and nothing else", "file:///srv/x and nothing else"),
    ],
)
def test_a_url_is_shown_without_its_secrets(text: str, scrubbed: str) -> None:
    """Only its scheme and host are shown."""
    assert without_secrets(text) == scrubbed


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a \x1b[1;31mred\x1b[0m word", "a red word"),
        ("\x1b]0;title\x07a \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "a link"),
        ("\x1b[2J\x1b(Bcleared\x1b", "cleared"),
        ("10 %\r20 %\r\nend\tof \x00it\x9b31m", "10 %\n20 %\nend\tof it31m"),
        ("written \u202ebackwards\u2069", "written backwards"),
    ],
    ids=["colour", "title and link", "screen", "moves", "direction"],
)
def test_output_of_a_child_cannot_control_a_terminal(text: str, shown: str) -> None:
    """Its text stays."""
    assert printable(text) == shown


DAEMON = """
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.chdir("/")
os.execve(sys.executable, [sys.executable, "-c", "import os, time; print(os.getpid(), flush=1); time.sleep(600)"], {})
"""


@on_linux
def test_daemons_are_found_and_ended() -> None:
    """A daemon has its own session, folder and environment, and no parent."""
    code = (
        "import multiprocessing, subprocess, sys\nfrom plumbline.processes import adopt_orphans, end_descendants\n"
        "kept = subprocess.Popen(['sleep', '600'])\nspare = adopt_orphans()\n"
        f"daemon = subprocess.run([sys.executable, '-c', {DAEMON!r}], stdout=sys.stdout)\nsys.stdin.readline()\n"
        "end_descendants(spare)\nprint(kept.poll(), flush=True)\nkept.kill()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        daemon = psutil.Process(int(process.stdout.readline()))
        assert daemon.ppid() == process.pid
        assert process.communicate("\n")[0] == "None\n"
    assert not is_running(daemon)


@on_linux
def test_later_processes_have_the_same_addresses() -> None:
    """In a process of its own, because the setting is inherited."""
    code = (
        "import subprocess, sys; from plumbline.processes import addresses_are_fixed, fix_addresses; fix_addresses()\n"
        "assert addresses_are_fixed()\n"
        "print(len({subprocess.check_output([sys.executable, '-c', 'print(id(None))']) for _ in range(4)}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if "AssertionError" in found.stderr:
        pytest.skip("this machine does not allow it")
    assert found.stdout == "1\n", found.stderr
