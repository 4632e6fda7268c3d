import subprocess
import sys
import time
from pathlib import Path

import pytest

from plumbline.comparing.trees.commands import run, scrub


def test_children_of_a_late_command_are_killed_with_it(tmp_path: Path) -> None:
    """The children of a command that takes too long are killed with it, as git's helpers must be."""
    child = "import time; open('pid', 'w').write(str(__import__('os').getpid())); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with pytest.raises(subprocess.TimeoutExpired):
        run([sys.executable, "-c", parent], limit_s=2.0, cwd=tmp_path)
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
    """User, password, path and query of a URL go; its scheme and host stay."""
    assert scrub(text) == scrubbed
