"""The tests of a suite as pytest's items: their keys, the services they use, and their outcomes."""

from collections.abc import Iterable

import pytest

from plumbline.results.schema import Outcome

MESSAGE_CHARACTERS = 4000

_KEY = pytest.StashKey[str]()


def set_key(item: pytest.Item, key: str) -> None:
    """Make an item one of the suite's."""
    item.stash[_KEY] = key


def key_of(item: pytest.Item) -> str:
    """Return an item's key; "" for an item that is not the suite's."""
    return item.stash.get(_KEY, "")


def fixtures_of(item: pytest.Item) -> set[str]:
    """Return the names of all fixtures that an item uses."""
    return set(getattr(item, "fixturenames", ()))


def uses_application(item: pytest.Item) -> bool:
    """Return whether an item needs the application and the processes beside it."""
    return not fixtures_of(item).isdisjoint({"api_url", "services"})


def select(items: Iterable[pytest.Item], profile_name: str) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Return the suite's items that a profile runs, disruptive ones last, and those that it leaves out."""
    is_full = profile_name == "full"
    selected: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        if key_of(item):
            (selected if is_full or not item.get_closest_marker("full") else left_out).append(item)
    selected.sort(key=lambda item: item.get_closest_marker("disruptive") is not None)
    return selected, left_out


def outcome_of(report: pytest.TestReport) -> tuple[Outcome, str]:
    """Return the outcome of a test, and the message if it failed or was skipped."""
    if report.failed:
        return "failed", report.longreprtext[-MESSAGE_CHARACTERS:]
    if report.skipped:
        reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
        return "skipped", reason.removeprefix("Skipped: ")
    return "passed", ""
