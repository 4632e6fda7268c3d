"""Processes of this machine: signals, identities, CPU affinity, and commands with a time limit."""

import contextlib
import errno
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import psutil

# Why the standard output can't be written. It is empty as long as it can.
output_lost: list[str] = []
OUTPUT_ENDED = (errno.EPIPE, errno.ENOSPC, errno.EIO)  # a closed pipe, a full disk, a closed terminal
# Environment variable: the ids of the parent commands. If one of them dies, the reaper ends the run.
WATCHED = "PERF_WATCH_PIDS"
# ECMA-48: with parameters, with a terminated string such as a title, or of two characters.
ESCAPE_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[\]P^_X][^\x07\x1b\n]*(\x07|\x1b\\)|[ -/]*[0-~])?")
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
URL_VARIABLE = re.compile("PERF_[A-Z]+_URL")  # may hold a password, and no command needs it
PR_SET_CHILD_SUBREAPER = 36
ADDR_NO_RANDOMIZE, CURRENT_PERSONA = 0x0040000, 0xFFFFFFFF
# The reaper, its time limit, and how long to wait for it at a time.
CLEANING_MODULE, CLEANING_LIMIT_S, CLEANING_CHECK_S = "plumbline.services.reaper", 6.0, 0.1
TERM_LIMIT_S = 1.0
SHELLS = {"sh", "bash", "dash", "zsh", "ash", "ksh"}
LINE_BYTES = 1000  # of a script, that are read to see what runs it
CHILDREN = Path("/proc/thread-self/children")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def watched_with_us() -> str:
    """Return the value of WATCHED for a child process: the parent commands and this process."""
    return ",".join(filter(None, [os.environ.get(WATCHED), str(os.getpid())]))


def identity(pid: int) -> dict[str, int | str]:
    """Return the id and the start time of a process, "" if it has ended. Together they are unique."""
    return {"pid": pid, "begun": _begun(pid)}


def alive(pid: int, begun: str) -> bool:
    """Return whether the process with this start time is running, or may be. A zombie is not."""
    try:
        return bool(begun) and _begun(pid) == begun
    except PermissionError:
        return True


def _begun(pid: int) -> str:
    """Return the start time of a process on a monotonic clock, or "" if it has ended. Raises PermissionError."""
    if not BOOT_ID.exists():
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            return str(process.create_time()) if is_running(process) else ""
        return ""
    try:
        # psutil's time depends on the wall clock. This one is in ticks since the boot: see proc_pid_stat(5).
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)  # another user's process may be hidden
        return ""
    return "" if state in "ZX" else f"{fields[18]} {BOOT_ID.read_text(encoding='ascii').strip()}"


def is_running(process: psutil.Process) -> bool:
    """Return whether a process is running, and not a zombie or a later process with its id."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def drop_output(file: TextIO) -> None:
    """Redirect a stream and its buffer to the null device: a failing flush at exit would change the exit code."""
    if file in (sys.stdout, sys.__stdout__):
        output_lost.append("it is closed, or its disk is full")
    os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
    with contextlib.suppress(OSError):
        file.flush()


def host_name() -> str:
    """Return a name for the scope of process ids: the machine, and its PID namespace if it is a container."""
    namespace = Path("/proc/self/ns/pid")
    return f"{platform.node()} {namespace.readlink() if namespace.is_symlink() else ''}".strip()


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants, or [] if it has ended."""
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        if not CHILDREN.exists():
            return [parent, *parent.children(recursive=True)]
        found, parents = [parent], [pid]
        while parents:
            for child in _children(parents.pop()):
                with contextlib.suppress(psutil.Error):
                    found.append(psutil.Process(child))
                    parents.append(child)
        return found
    return []


def _children(pid: int) -> Iterator[int]:
    """Yield the ids of a process's children (Linux): psutil would read a file of each process of the machine."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            yield from map(int, (task / "children").read_text().split())


def signal_all(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to processes. psutil checks that their ids have not been reused."""
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            process.send_signal(number)


def end_all(find: Callable[[], list[psutil.Process]], number: signal.Signals, limit_s: float, only: int = 0) -> None:
    """Send a signal to all processes, or to the one with the id `only`, and wait until all have ended."""
    deadline_s = time.monotonic() + limit_s
    signalled: list[psutil.Process] = []
    # Search repeatedly: a process may have just started another one.
    while (running := [one for one in find() if is_running(one)]) and time.monotonic() < deadline_s:
        new = [process for process in running if process not in signalled]
        signal_all([process for process in new if only in {0, process.pid}], number)
        signal_all(new, signal.SIGCONT)
        signalled += new
        time.sleep(0.005)


def adopt_orphans() -> set[int]:
    """Become the subreaper of all descendants (Linux), and return the ids of the present ones.

    Nothing else finds a daemon: it has its own session, folder and environment.
    """
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    return {process.pid for process in tree(os.getpid())}


def fix_addresses() -> None:
    """Start all later processes without address space randomisation (Linux, unless a container forbids it).

    Client and application share a core and the code of Python. By chance its addresses in the two processes compete for
    the same entries of the CPU's caches, or not. On an AMD EPYC, requests to one application process in ten were 10 %
    faster, as long as it lived.
    """
    if (persona := _persona()) >= 0:
        _persona(persona | ADDR_NO_RANDOMIZE)


def addresses_are_fixed() -> bool:
    """Return whether this process was started without address space randomisation."""
    return (persona := _persona()) >= 0 and bool(persona & ADDR_NO_RANDOMIZE)


def _persona(new: int = CURRENT_PERSONA) -> int:
    """Set the execution domain of later processes, and return the one before; -1 if that is not possible here."""
    if not sys.platform.startswith("linux"):
        return -1
    import ctypes

    return int(ctypes.CDLL(None).personality(ctypes.c_ulong(new)))


def end_descendants(spare: Collection[int]) -> None:
    """End all descendants of this process except `spare`, after waiting for the reaper.

    Python's resource tracker stays: it cleans up after them and ends by itself.
    """

    def found(part: str = "", but: str = "\0") -> list[psutil.Process]:
        commands = {process: _command_of(process) for process in tree(os.getpid()) if process.pid not in spare}
        return [process for process, text in commands.items() if part in text and but not in text]

    deadline_s = time.monotonic() + CLEANING_LIMIT_S
    while (left := found(CLEANING_MODULE)) and time.monotonic() < deadline_s:
        psutil.wait_procs(left, CLEANING_CHECK_S)  # and look again: zombies do not count
    for number in (signal.SIGTERM, signal.SIGKILL):
        end_all(lambda: found(but="resource_tracker"), number, TERM_LIMIT_S)


def _command_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def threads(pids: Iterable[int]) -> Iterator[int]:
    """Yield the thread ids of processes. Skips processes that have ended. Linux only."""
    for pid in pids:
        with contextlib.suppress(OSError):
            yield from [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]


def set_affinity(pids: Iterable[int], cores: Iterable[int]) -> None:
    """Restrict all threads of processes to some cores. Skips those that have ended or belong to another user."""
    allowed = set(cores)
    for thread in threads(pids):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(thread, allowed)


def pinned_core(pids: Iterable[int]) -> int | None:
    """Return the core that all threads of these processes are pinned to, or None."""
    cores: set[int] = set()
    for thread in threads(pids):
        with contextlib.suppress(OSError):
            cores |= os.sched_getaffinity(thread)
    return cores.pop() if len(cores) == 1 else None


def run_command(
    command: Sequence[str], limit_s: float, environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> tuple[int, str, str]:
    """Run a command in a new session: it cannot prompt, and its children are killed with it at the limit.

    Returns the exit code, stdout and stderr. Raises FileNotFoundError and subprocess.TimeoutExpired.
    """
    environ = os.environ if environ is None else environ
    with subprocess.Popen(
        command,
        cwd=cwd,
        env={name: value for name, value in environ.items() if not URL_VARIABLE.fullmatch(name)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="surrogateescape",
        start_new_session=True,
    ) as child:
        try:
            output, errors = child.communicate(timeout=limit_s)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            raise
    return child.returncode, output, errors


def printable(text: str) -> str:
    """Remove escape sequences and control characters, which could set colours, titles or the clipboard."""
    return CONTROLS.sub("", ESCAPE_SEQUENCE.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))


def with_lines(output: str) -> str:
    """Return an output in which tracebacks that are strings of a JSON log have their lines."""
    if '  File \\"' not in output:
        return output
    # The end of the string is that of its line. A log may be cut off, so that it is no JSON.
    return re.sub(r'(?<!\\)",? ?(?="\w+":|\})', "\n", output).replace("\\n", "\n").replace('\\"', '"')


def last_lines(text: str, count: int) -> str:
    """Return the last lines of an output on one line, without secrets."""
    lines = [line.strip() for line in without_secrets(printable(text)).splitlines() if line.strip()]
    return " / ".join(lines[-count:])


def without_secrets(text: str) -> str:
    """Shorten each URL to its scheme and host: the rest may hold a token."""
    return re.sub(r"(\w+://)(?:[^/\s'\"]*@)?([^/\s'\"?#]+)[^\s'\"]*", r"\1\2/…", text)


def is_run_by_python(program: str, path: str | None = None) -> bool:
    """Return whether a program is Python, or a script that Python runs."""
    found = Path(shutil.which(program, path=path) or "")
    if found.name.startswith("python"):
        return True
    with contextlib.suppress(OSError), found.open("rb") as file:
        first, second = file.readline(LINE_BYTES), file.readline(LINE_BYTES)
        # Installers write the second line, for a shell, if the path of Python is too long for the first one.
        return first.startswith(b"#!") and (
            b"python" in first or (second.startswith(b"'''exec'") and b"python" in second)
        )
    return False
