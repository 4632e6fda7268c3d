"""The time limit of each test: its `timeout` mark, pytest-timeout's option, or `test_limit_s` of the settings."""

import pytest

NO_LIMIT_S = 1e6  # days: the limit of a test that has none; `gate.time_limit_s` ends the run before
_ARGUMENTS = ("timeout", "method", "func_only")  # of the mark, in the order of pytest-timeout


def limit_of(item: pytest.Item, default_s: float) -> tuple[float, bool]:
    """Return the time limit of a test in seconds, and whether it is for the test alone, without its fixtures.

    As for pytest-timeout, 0 means no limit. Raises ValueError for a mark that cannot be used. The mark's `method` is
    ignored: by that of a thread, one test would end the whole run.
    """
    mark = item.get_closest_marker("timeout")
    given = {**dict(zip(_ARGUMENTS, mark.args, strict=False)), **mark.kwargs} if mark else {}
    limits = (given.get("timeout"), item.config.getoption("timeout", None), default_s)
    limit = next(limit for limit in limits if limit is not None)
    try:
        limit_s = float(limit)
    except (TypeError, ValueError):
        raise ValueError(f"the mark `timeout` takes seconds, not {limit!r}") from None
    return (limit_s if 0 < limit_s < NO_LIMIT_S else NO_LIMIT_S), given.get("func_only") is True
