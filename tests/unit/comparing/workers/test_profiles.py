"""The functions that got slower, from known profiles."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from plumbline.cache import digest
from plumbline.comparing.workers.in_application.plumbline_profiling import PARTS
from plumbline.comparing.workers.profiles import Profile, Seen, slower_functions

KEY = "test_shop.py::test_total"
POLL = "method 'poll' of 'select.epoll' objects"
TREES = {side: Path("/copies", side) for side in ("base", "head")}


def written(folder: Path, name: str, functions: list[Seen], operations: int = 0, timed_s: Sequence[float] = ()) -> None:
    """Write profiles with equal parts, except for a stall in one."""
    folder = folder / digest(KEY)
    folder.mkdir(exist_ok=True, parents=True)
    stalled = [Seen(one.name, one.file, one.line, one.calls, one.own_s + 9, one.total_s + 9) for one in functions]
    parts = [stalled] + [functions] * (PARTS - 1)
    (folder / f"{name}.json").write_bytes(
        msgspec.json.encode(Profile(parts, [operations] * PARTS if operations else [], [*timed_s]))
    )


def test_functions_are_listed_by_how_much_longer_they_take_in_head(tmp_path: Path) -> None:
    """Per operation, of both processes, matched below the trees and the folders of packages, the worst first.

    With what they call where they are the repository's own; what waits comes last, and a stall changes nothing.
    """
    base, head = tmp_path / "base", tmp_path / "head"
    packages = {"base": "/a/lib/python3.11/site-packages/redis/client.py", "head": "/b/site-packages/redis/client.py"}
    for folder, operations in ((base, 100), (head, 50)):
        slower = folder is head
        tree = f"/copies/{folder.name}"
        written(
            folder,
            "test",
            [
                Seen("total", f"{tree}/shop/prices.py", 41 if slower else 40, operations, 0.0, 0.3 if slower else 0.2),
                Seen("pack", packages[folder.name], 7, operations, 0.02 * operations, 9.0 if slower else 1.0),
                Seen("dump", packages[folder.name], 9, operations, (0.003 if slower else 0.002) * operations, 9.0),
                Seen("sum", "", 0, operations, 0.001 * operations, 0.001 * operations),
                Seen(POLL, "", 0, 1, 5.0, 5.0),
            ],
            operations,
        )
        find = Seen("find", f"{tree}/shop/app.py", 5, operations * (3 if slower else 1), 0.0, 1.0)
        written(folder, "app", [find, Seen(POLL, "", 0, 1, 5.0, 5.0)])
    found = slower_functions(KEY, tmp_path, TREES)
    assert [(one.where, one.file, one.line, one.name) for one in found] == [
        ("app", "shop/app.py", 5, "find"),
        ("", "shop/prices.py", 41, "total"),
        ("", "redis/client.py", 9, "dump"),
        ("app", "", 0, POLL),
    ]
    assert [one.own for one in found] == [True, True, False, False]
    assert (found[0].base_s, found[0].head_s) == pytest.approx((0.01, 0.02))
    assert (found[0].base_calls, found[0].head_calls) == (1, 3)
    assert (found[1].base_s, found[1].head_s) == pytest.approx((0.002, 0.006))


def test_a_function_that_base_does_not_have_is_new_in_head(tmp_path: Path) -> None:
    """Its time in base is 0."""
    base, head = tmp_path / "base", tmp_path / "head"
    written(base, "test", [], 10)
    written(head, "test", [Seen("validate", "/copies/head/shop.py", 3, 10, 0.1, 0.1)], 10)
    [one] = slower_functions(KEY, tmp_path, TREES)
    assert not one.resumes
    assert (one.file, one.base_s, one.base_calls, one.head_calls) == ("shop.py", 0.0, 0.0, 1.0)
    assert [two.file for two in slower_functions(KEY, tmp_path, TREES, "backend")] == ["../shop.py"]
    assert one.head_s == pytest.approx(0.01)


@pytest.mark.parametrize("text", [None, "", "{", '{"parts": [], "operations": []}'])
def test_without_a_whole_profile_no_function_is_listed(tmp_path: Path, text: str | None) -> None:
    """A profile may be missing or incomplete."""
    base, head = tmp_path / "base", tmp_path / "head"
    written(head, "test", [Seen("validate", "/copies/head/shop.py", 3, 10, 0.1, 0.1)], 10)
    (base / digest(KEY)).mkdir(parents=True)
    if text is not None:
        (base / digest(KEY) / "test.json").write_text(text)
    assert slower_functions(KEY, tmp_path, TREES) == []


def slower_by(tmp_path: Path, process: str, *slower: tuple[str, str, float]) -> list[str]:
    """Return the listed functions if an operation takes 10 ms more, by these shares."""
    (tmp_path / "base").mkdir()
    for side, operation_s in ("base", 0.02), ("head", 0.03):
        seen = [Seen(name, file.format(side=side), 1, 10, time_s * 10, time_s * 10) for name, file, time_s in slower]
        written(tmp_path / side, process, seen if side == "head" else [])
        test = seen if process == "test" and side == "head" else []
        written(tmp_path / side, "test", test, 10, [operation_s * 10] * PARTS)
    return [one.name for one in slower_functions(KEY, tmp_path, TREES)]


def test_what_explains_less_than_a_tenth_is_not_shown(tmp_path: Path) -> None:
    """Waiting functions are not shown if a function explains the slow-down."""
    tree = "/copies/{side}/shop.py"
    found = slower_by(tmp_path, "app", ("items", tree, 0.008), ("a tenth", tree, 0.001), ("less", tree, 0.0009))
    assert found == ["items", "a tenth"]


def test_nothing_is_shown_if_nothing_explains_a_tenth(tmp_path: Path) -> None:
    assert slower_by(tmp_path, "test", ("noise", "/copies/{side}/shop.py", 0.0005)) == []


@pytest.mark.parametrize(("explained_s", "found"), [(0.008, ["items"]), (0.004, ["items", POLL])])
def test_what_waits_is_shown_only_if_nothing_explains_the_slow_down(
    tmp_path: Path, explained_s: float, found: list[str]
) -> None:
    assert slower_by(tmp_path, "app", ("items", "/copies/{side}/shop.py", explained_s), (POLL, "", 0.009)) == found


def test_a_new_function_comes_before_those_that_call_it(tmp_path: Path) -> None:
    """Their growth is the same, or a little larger."""
    tree = "/copies/{side}/shop.py"
    for side in ("base", "head"):
        more_s, file = (0.4 if side == "head" else 0.0), tree.format(side=side)
        seen = [Seen("handler", file, 1, 10, 0.0, 0.2 + more_s * 1.1), Seen("page", file, 9, 10, 0.0, 0.1 + more_s)]
        new = [Seen("count", file, 19, 400, 0.0, more_s)] if more_s else []
        written(tmp_path / side, "app", [*seen, *new])
        written(tmp_path / side, "test", [], 10)
    assert [one.name for one in slower_functions(KEY, tmp_path, TREES)] == ["count", "page", "handler"]


def test_coroutines_that_wait_more_often_are_shown(tmp_path: Path) -> None:
    """Their time is without their waiting. A function with the same number of calls does not explain the waiting."""
    tree = "/copies/{side}/shop.py"
    for side, poll_s, calls in (("base", 0.01, 30), ("head", 0.02, 130)):
        files = tree.format(side=side)
        waits_s = 0.0005 * calls / 10
        items = Seen("items", files, 1, calls, 0.0, waits_s / 10)
        other = Seen("other", files, 9, 10, 0.0, waits_s / 10)
        written(tmp_path / side, "app", [items, other, Seen(POLL, "", 0, 1, poll_s * 10, poll_s * 10)])
        written(tmp_path / side, "test", [], 10, [poll_s * 10] * PARTS)
    assert [one.name for one in slower_functions(KEY, tmp_path, TREES)] == ["items", POLL]


def test_no_line_of_the_harness_is_shown(tmp_path: Path) -> None:
    files = [f"/lib/python3.11/site-packages/{name}.py" for name in ("plumbline/loop", "_pytest/runner", "pluggy/x")]
    files += ["/elsewhere/src/plumbline/worker.py", "/copies/{side}/tests/performance/vendor/plumbline/loop.py"]
    harness = [(f"step {number}", file, 0.01) for number, file in enumerate(files)]
    disable = ("method 'disable' of '_lsprof.Profiler' objects", "", 0.01)
    assert slower_by(tmp_path, "test", ("items", "/copies/{side}/shop.py", 0.009), *harness, disable) == ["items"]


def test_a_test_that_waits_for_its_application_is_not_shown(tmp_path: Path) -> None:
    """Functions of the suite count without the time of what they call."""
    for side, time_s in ("base", 0.02), ("head", 0.03):
        own = Seen("test_items", f"/copies/{side}/tests/performance/test_shop.py", 1, 10, 0.0, time_s * 10)
        written(tmp_path / side, "test", [own], 10, [time_s * 10] * PARTS)
        written(tmp_path / side, "app", [Seen("items", f"/copies/{side}/shop.py", 1, 10, time_s * 10, time_s * 10)])
    assert [one.name for one in slower_functions(KEY, tmp_path, TREES)] == ["items"]
