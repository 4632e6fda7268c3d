"""The time limit of a test: its `timeout` mark, pytest-timeout's option, or the setting `test_limit_s`."""

import pytest

NO_LIMIT_S = 1e6  # for a test without a limit: `gate.time_limit_s` ends the run long before
_ARGUMENTS = ("timeout", "method", "func_only")  # of pytest-timeout's mark, in order


def limit_of(item: pytest.Item, default_s: float) -> tuple[float, bool]:
    """Return the time limit of a test in seconds, and whether it excludes fixtures.

    0 means no limit, as for pytest-timeout. The mark's `method` is ignored, because the method "thread" would end the
    whole run. Raises ValueError for an invalid mark.
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
