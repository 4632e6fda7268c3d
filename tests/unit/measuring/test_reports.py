import signal
import types
from typing import Any, cast

import pytest

from plumbline.measuring.reports import Reports


def test_the_limit_stands_still_while_a_failure_is_shown() -> None:
    """That of this very test: off for a moment, and then what was left of it."""
    context = cast(Any, types.SimpleNamespace(key_of=lambda _: ""))
    left_s = signal.getitimer(signal.ITIMER_REAL)[0]
    assert left_s > 0

    rendering = Reports(context).pytest_runtest_makereport(cast(Any, None))
    next(rendering)
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    with pytest.raises(StopIteration, match="report"):
        rendering.send(cast(Any, "report"))

    assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= left_s
