"""Clear messages for known causes of an early end."""

import errno
import os
import runpy
from pathlib import Path

import pytest

from plumbline.measuring import causes
from plumbline.measuring.causes import KnownCauses, cause_of_end


def test_the_line_that_calls_sys_exit_is_named(tmp_path: Path) -> None:
    """A test module imports a script without `if __name__ == "__main__"`."""
    (tmp_path / "tool.py").write_text("import sys\nsys.exit(0)\n")

    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(tmp_path / "tool.py"))

    assert cause_of_end(ended.value, tmp_path).startswith("tool.py, line 2, exits with sys.exit(0): ")
    assert cause_of_end(ended.value, tmp_path / "other").startswith("a module exits with sys.exit(0): ")


def test_too_many_open_files_are_named_and_some_are_left_for_the_end(tmp_path: Path) -> None:
    """The end of the run needs files to report the cause and to stop the services."""
    ended: list[tuple[str, int]] = []
    known = KnownCauses(tmp_path, lambda reason, code: ended.append((reason, code)))
    spare = [*known._spare]
    assert len(spare) == causes.SPARE_FILES

    with pytest.raises(OSError, match="Too many"), known.named():
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    [(reason, code)] = ended
    assert code == 3
    assert reason.startswith("Too many open files: close what the tests and their modules open, or raise the limit")
    for number in spare:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "gone"), ValueError("odd"), KeyboardInterrupt()])
def test_other_errors_are_unchanged(tmp_path: Path, error: BaseException) -> None:
    assert cause_of_end(error, tmp_path) == ""
