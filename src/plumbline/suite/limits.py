"""Time limits of each test: the loop's own, pytest-timeout's at twice that, and faulthandler's behind both."""

import faulthandler
import inspect
import os
from collections.abc import Generator, Iterable

import pytest

from plumbline.measuring.guards import guarded, interruptible

_LIMIT_S = pytest.StashKey[float]()


class TimeLimits:
    """Limits each test of the suite. A pytest plugin."""

    def __init__(self) -> None:
        self._stderr = os.dup(2)  # the interpreter's last words get past pytest's capture

    def limit(self, items: Iterable[pytest.Item], limit_s: float) -> None:
        """Limit each of these items: by its own marker `timeout`, or to `limit_s`."""
        for item in items:
            if not isinstance(item, pytest.Function):
                continue
            marker = item.get_closest_marker("timeout")
            own_s = float(marker.args[0]) if marker and marker.args else limit_s
            if inspect.iscoroutinefunction(item.obj):
                item.obj = interruptible(guarded(item.obj, own_s))
                own_s *= 2
            item.add_marker(pytest.mark.timeout(own_s, func_only=False), append=False)
            item.stash[_LIMIT_S] = own_s

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        if _LIMIT_S not in item.stash:
            return (yield)
        faulthandler.dump_traceback_later(item.stash[_LIMIT_S] * 2 + 30, exit=True, file=self._stderr)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def pytest_unconfigure(self) -> None:
        os.close(self._stderr)
