"""Run other programs within a time limit, and show what they print without secrets."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def run(
    command: Sequence[str], *, limit_s: float, environ: Mapping[str, str] = os.environ, cwd: Path | None = None
) -> tuple[int, str, str]:
    """Run a command in a session of its own: without a terminal to prompt on, and killed with its children.

    Returns its exit code, output and errors. Raises FileNotFoundError and subprocess.TimeoutExpired.
    """
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=environ,
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


def scrub(text: str) -> str:
    """Reduce each URL to its scheme and host: the rest may hold a token."""
    return re.sub(r"(\w+://)(?:[^/\s'\"]*@)?([^/\s'\"?#]+)[^\s'\"]*", r"\1\2/…", text)


def last_lines(text: str, count: int) -> str:
    """Return the last lines of some output in one line, scrubbed."""
    lines = [line.strip() for line in scrub(text).splitlines() if line.strip()]
    return " / ".join(lines[-count:])
