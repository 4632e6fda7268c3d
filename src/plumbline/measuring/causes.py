"""Clear messages for two causes that pytest would show as internal errors: `sys.exit` and too many open files."""

import contextlib
import errno
import os
import traceback
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from plumbline.project import EXIT_INVALID

SPARE_FILES = 24
TOO_MANY = (errno.EMFILE, errno.ENFILE)


class KnownCauses:
    """Ends the run with the cause instead of a traceback through pytest. A pytest plugin.

    It reserves some open files for the end of a run whose tests have used up all others.
    """

    def __init__(self, root: Path, end: Callable[[str, int], object]) -> None:
        """Call `end`, which must raise, for each known cause, and at once if no files can be opened."""
        self._root = root
        self._end = end
        self._spare: list[int] = []
        with self.named():
            while len(self._spare) < SPARE_FILES:
                self._spare.append(os.open(os.devnull, os.O_RDONLY))

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if cause := cause_of_end(error, self._root):
                self.close()
                self._end(cause, EXIT_INVALID)
            raise

    def close(self) -> None:
        while self._spare:
            os.close(self._spare.pop())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        with self.named():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        self.close()
        return (yield)


def cause_of_end(error: BaseException, root: Path) -> str:
    """Return the cause of the error and what to do next, or "" if it is unknown. `root` is the project's folder."""
    if isinstance(error, SystemExit):
        frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
        own = [f"{path.relative_to(root)}, line {line}," for path, line in frames if path.is_relative_to(root)]
        place = own[-1] if own else "a module"
        return f"{place} exits with sys.exit({error.code!r}): put that under `if __name__ == '__main__'`, or remove it"
    if isinstance(error, OSError) and error.errno in TOO_MANY:
        return f"{error.strerror}: close what the tests and their modules open, or raise the limit (ulimit -n)"
    return ""
