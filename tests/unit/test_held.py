"""Locks that show whether a process is alive."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from plumbline import held

HOLDS = "import pathlib, sys; from plumbline import held; held.hold(pathlib.Path(sys.argv[1])); print(flush=True)"


def is_free(path: Path) -> bool:
    with held.unless_held(path) as free:
        return free


def test_a_file_is_held_until_its_process_ends(tmp_path: Path) -> None:
    """Even if the process is killed."""
    code = f"{HOLDS}; sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path / "file")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert not is_free(tmp_path / "file")
        process.kill()
    assert is_free(tmp_path / "file")


def test_a_forked_child_does_not_hold_its_parent_s_files(tmp_path: Path) -> None:
    """Otherwise a stray child would block the clean-up after a killed run."""
    code = f"import os; {HOLDS}; os.fork() == 0 and sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path / "file")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.wait()
        assert is_free(tmp_path / "file")


def test_no_other_process_can_hold_the_file_in_the_block(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with held.unless_held(tmp_path / "file") as free:
        assert free
        with pytest.raises(BlockingIOError):
            held.hold(tmp_path / "file")
    held.hold(tmp_path / "file")
    assert not is_free(tmp_path / "file")
    held.release(tmp_path / "file")
    assert is_free(tmp_path / "file")


def test_without_a_file_or_without_locks_nothing_counts_as_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some network file systems."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    assert not is_free(tmp_path / "none")
    (tmp_path / "file").touch()
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert not is_free(tmp_path / "file")
    with pytest.raises(OSError, match="No locks"):
        held.hold(tmp_path / "file")


def test_a_file_can_be_locked_once_until_it_is_unlocked(tmp_path: Path) -> None:
    """A forked child does not keep it locked."""
    path = tmp_path / "file"
    first = held.lock(path)
    assert first is not None
    assert held.lock(path) is None
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[first]):
        held.unlock(first)
        second = held.lock(path)
    assert second is not None
    held.unlock(second)


def test_a_file_that_cannot_be_locked_raises_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on some network file systems."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="No locks available"):
        held.lock(tmp_path / "file")
