"""Variables of the shell that are hidden from child processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from plumbline import inherited


def test_variables_that_configure_tools_are_disturbing() -> None:
    found = inherited.disturbing(dict.fromkeys(["UVICORN_UDS", "GRANIAN_PORT", "PYTHONOPTIMIZE", "PIP_USER"], "1"))
    assert found == ["GRANIAN_PORT", "PIP_USER", "PYTHONOPTIMIZE", "UVICORN_UDS"]


def test_variables_that_applications_need_are_kept() -> None:
    """So are empty variables, which Python and pytest ignore, and those that only contain paths."""
    names = ["PYTHONPATH", "PYTHONHASHSEED", "PYTHONUNBUFFERED", "PIP_INDEX_URL", "UV_INDEX_URL", "HOME", "LD_PRELOAD"]
    assert inherited.disturbing(dict.fromkeys(names, "1") | {"PYTHONOPTIMIZE": ""}) == []


def test_a_command_starts_again_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same arguments and options of Python. It does not restart if none is set."""
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "utf8", "-m", "plumbline", "ci"])
    started: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda *given: started.append(given))

    inherited.leave_behind({"HOME": "/root", "UVICORN_RELOAD": "1", "WEB_CONCURRENCY": "4"})
    inherited.leave_behind({"HOME": "/root", "PERF_HIDDEN": "UVICORN_RELOAD WEB_CONCURRENCY"})

    environ = {"HOME": "/root", "PERF_HIDDEN": "UVICORN_RELOAD WEB_CONCURRENCY"}
    assert started == [(sys.executable, [sys.executable, "-X", "utf8", "-m", "plumbline", "ci"], environ)]


def test_a_columns_variable_without_room_for_a_report_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich would print nothing."""
    started: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execve", lambda _, __, environ: started.append(environ))

    for columns in ("0", "80"):
        inherited.leave_behind({"COLUMNS": columns})

    assert started == [{"PERF_HIDDEN": "COLUMNS"}]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_a_home_without_access_is_removed(tmp_path: Path) -> None:
    """As after `su` from root: clients would fail to read their files there."""
    tmp_path.chmod(0o700)
    source = f"""
import os, sys
sys.path[:] = {sys.path!r}
from plumbline import inherited
os.setuid(65534)
print(inherited._is_closed({str(tmp_path)!r}), inherited._is_closed("/"))
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False"], done.stderr
