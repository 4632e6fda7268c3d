"""Which variables of the shell are hidden from what a command starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from plumbline import inherited


def test_what_configures_a_tool_is_disturbing() -> None:
    found = inherited.disturbing(dict.fromkeys(["UVICORN_UDS", "GRANIAN_PORT", "PYTHONOPTIMIZE", "PIP_USER"], "1"))
    assert found == ["GRANIAN_PORT", "PIP_USER", "PYTHONOPTIMIZE", "UVICORN_UDS"]


def test_what_an_application_may_need_is_left() -> None:
    """Also what is empty, which Python and pytest take for unset, and what only says where things are."""
    names = ["PYTHONPATH", "PYTHONHASHSEED", "PYTHONUNBUFFERED", "PIP_INDEX_URL", "UV_INDEX_URL", "HOME", "LD_PRELOAD"]
    assert inherited.disturbing(dict.fromkeys(names, "1") | {"PYTHONOPTIMIZE": ""}) == []


def test_a_command_starts_again_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same arguments and options of Python; it does not if there are none."""
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "utf8", "-m", "plumbline", "ci"])
    started: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda *given: started.append(given))

    inherited.leave_behind({"HOME": "/root", "UVICORN_RELOAD": "1", "WEB_CONCURRENCY": "4"})
    inherited.leave_behind({"HOME": "/root", "PERF_HIDDEN": "UVICORN_RELOAD WEB_CONCURRENCY"})

    environ = {"HOME": "/root", "PERF_HIDDEN": "UVICORN_RELOAD WEB_CONCURRENCY"}
    assert started == [(sys.executable, [sys.executable, "-X", "utf8", "-m", "plumbline", "ci"], environ)]


def test_a_width_without_room_for_a_report_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich would print nothing into no columns."""
    started: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execve", lambda _, __, environ: started.append(environ))

    for columns in ("0", "80"):
        inherited.leave_behind({"COLUMNS": columns})

    assert started == [{"PERF_HIDDEN": "COLUMNS"}]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_a_home_that_is_closed_to_this_user_is_left_behind(tmp_path: Path) -> None:
    """As after `su` from root: clients look there for their files, and fail."""
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
