"""The time limit of a test: its `timeout` mark, pytest-timeout's option, or the settings."""

from types import SimpleNamespace
from typing import Any

import pytest

from plumbline.suite.limits import NO_LIMIT_S, limit_of


def item(*marks: pytest.MarkDecorator, option: float | None = None) -> Any:
    """A test with these marks."""
    found = {mark.name: mark.mark for mark in marks}
    config = SimpleNamespace(getoption=lambda name, default: option if name == "timeout" else default)
    return SimpleNamespace(get_closest_marker=found.get, config=config)


@pytest.mark.parametrize(
    ("mark", "limit"),
    [
        (pytest.mark.timeout(6), (6.0, False)),
        (pytest.mark.timeout("2.5"), (2.5, False)),
        (pytest.mark.timeout(timeout=6), (6.0, False)),
        (pytest.mark.timeout(6, "thread", True), (6.0, True)),
        (pytest.mark.timeout(6, func_only=True, method="signal"), (6.0, True)),
        (pytest.mark.timeout(func_only=True), (30.0, True)),
        (pytest.mark.timeout(None), (30.0, False)),
        (pytest.mark.timeout(0), (NO_LIMIT_S, False)),
        (pytest.mark.timeout(timeout=-1), (NO_LIMIT_S, False)),
        (pytest.mark.timeout(float("inf")), (NO_LIMIT_S, False)),
        (pytest.mark.timeout(1e15), (NO_LIMIT_S, False)),
    ],
)
def test_arguments_may_be_positional_and_0_means_no_limit(
    mark: pytest.MarkDecorator, limit: tuple[float, bool]
) -> None:
    assert limit_of(item(mark), 30.0) == limit


@pytest.mark.parametrize(
    ("option", "marks", "limit_s"),
    [(None, [], 30.0), (5.0, [], 5.0), (0.0, [], NO_LIMIT_S), (5.0, [pytest.mark.timeout(6)], 6.0)],
)
def test_the_mark_overrides_the_option_and_the_option_the_settings(
    option: float | None, marks: list[pytest.MarkDecorator], limit_s: float
) -> None:
    assert limit_of(item(*marks, option=option), 30.0) == (limit_s, False)


@pytest.mark.parametrize("value", ["soon", [1], {}])
def test_a_mark_without_a_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="the mark `timeout` takes seconds, not "):
        limit_of(item(pytest.mark.timeout(value)), 30.0)
