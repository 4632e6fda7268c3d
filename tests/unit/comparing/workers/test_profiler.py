"""What got slower, by a profiler: known profiles, and real processes of a test and of an application."""

import os
import textwrap
from pathlib import Path

import httpx
import msgspec
import pytest

from plumbline.cache import digest
from plumbline.comparing.workers import profiler as profile
from plumbline.comparing.workers.profiler import PARTS, Profile, ProfilingTimer, Seen, slower_functions
from plumbline.comparing.workers.protocol import PROFILE
from plumbline.services.application import Application
from plumbline.services.service_run import Run
from plumbline.settings import AppSettings, Settings
from tests.unit.comparing.workers.test_slowed import APPLICATION

LIMIT_S = 30.0
KEY = "test_shop.py::test_total"


def written(folder: Path, name: str, functions: list[Seen], operations: int = 0) -> None:
    """As many operations in each part, which are alike but for a stall in one."""
    folder = folder / digest(KEY)
    folder.mkdir(exist_ok=True, parents=True)
    stalled = [Seen(one.name, one.file, one.line, one.calls, one.own_s + 9, one.total_s + 9) for one in functions]
    parts = [stalled] + [functions] * (PARTS - 1)
    (folder / f"{name}.json").write_bytes(
        msgspec.json.encode(Profile(parts, [operations] * PARTS if operations else []))
    )


def test_functions_are_told_by_what_they_take_more_in_head(tmp_path: Path) -> None:
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
                Seen("method 'poll' of 'select.epoll' objects", "", 0, 1, 5.0, 5.0),
            ],
            operations,
        )
        written(folder, "app", [Seen("find", f"{tree}/shop/app.py", 5, operations * (3 if slower else 1), 0.0, 1.0)])
    found = slower_functions(KEY, base, head, (Path("/copies/base"), Path("/copies/head")))
    assert [(one.where, one.file, one.line, one.name) for one in found] == [
        ("app", "shop/app.py", 5, "find"),
        ("", "shop/prices.py", 41, "total"),
        ("", "redis/client.py", 9, "dump"),
        ("", "", 0, "method 'poll' of 'select.epoll' objects"),
    ]
    assert (found[0].base_s, found[0].head_s) == pytest.approx((0.01, 0.02))
    assert (found[0].base_calls, found[0].head_calls) == (1, 3)
    assert (found[1].base_s, found[1].head_s) == pytest.approx((0.002, 0.006))


def test_a_function_that_base_does_not_have_is_new_in_head(tmp_path: Path) -> None:
    """It took no time there."""
    base, head = tmp_path / "base", tmp_path / "head"
    written(base, "test", [], 10)
    written(head, "test", [Seen("validate", "/copies/head/shop.py", 3, 10, 0.1, 0.1)], 10)
    [one] = slower_functions(KEY, base, head, (Path("/copies/base"), Path("/copies/head")))
    assert (one.file, one.base_s, one.base_calls, one.head_calls) == ("shop.py", 0.0, 0.0, 1.0)
    assert one.head_s == pytest.approx(0.01)


@pytest.mark.parametrize("text", [None, "", "{", '{"parts": [], "operations": []}'])
def test_without_a_whole_profile_nothing_is_told(tmp_path: Path, text: str | None) -> None:
    """A process that wrote none, or half of one."""
    base, head = tmp_path / "base", tmp_path / "head"
    written(head, "test", [Seen("validate", "/copies/head/shop.py", 3, 10, 0.1, 0.1)], 10)
    (base / digest(KEY)).mkdir(parents=True)
    if text is not None:
        (base / digest(KEY) / "test.json").write_text(text)
    assert slower_functions(KEY, base, head, (Path("/copies/base"), Path("/copies/head"))) == []


def spin(rounds: int) -> int:
    return sum(range(rounds))


def test_what_runs_in_timed_blocks_is_profiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing between them; the samples are timed as ever."""
    monkeypatch.setenv(PROFILE, str(tmp_path))
    samples_s: list[float] = []
    timer = ProfilingTimer(KEY, samples_s, operations=4)
    for _ in range(7):
        with timer:
            spin(1000)
        sorted([2, 1])
    timer.end()
    found = msgspec.json.decode((tmp_path / digest(KEY) / "test.json").read_bytes(), type=Profile)
    calls = [{seen.name: seen.calls for seen in part} for part in found.parts]
    assert found.operations == [8, 8, 4, 4, 4]
    assert len(samples_s) == 7
    assert [part["spin"] for part in calls] == [part["sum"] for part in calls] == [2, 2, 1, 1, 1]
    assert not any("sorted" in part for part in calls)


def test_an_application_is_profiled_while_it_answers_timed_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its lifespan; what it answers between timed blocks is left out, and each benchmark has what is its own."""
    (tmp_path / "sample.py").write_text(textwrap.dedent(APPLICATION))
    for name in (profile.ASGI, profile.IS_FACTORY):
        monkeypatch.setenv(name, "")  # gone again at the end
    monkeypatch.setenv(PROFILE, str(tmp_path))
    wanted = profile.instead_of_application(Settings(app=AppSettings(asgi="sample:make", factory=True))).app
    assert wanted is not None
    run = Run()
    run.begin()
    app = Application(wanted, Path(__file__).resolve().parents[2], {"PYTHONPATH": str(tmp_path)}, run)
    keys = [KEY, "test_shop.py::test_next"]
    try:
        app.start()
        app.wait_ready(LIMIT_S)
        for key in keys:
            timer = ProfilingTimer(key, [], operations=1)
            for _ in range(3):
                with timer:
                    assert httpx.get(f"{app.address.url}/health").text == "well"
                httpx.get(f"{app.address.url}/health")
            timer.end()
    finally:
        app.stop()
        run.end()
    for key in keys:
        found = msgspec.json.decode((tmp_path / digest(key) / "app.json").read_bytes(), type=Profile)
        health = [seen for part in found.parts for seen in part if seen.name == "health"]
        assert [(Path(seen.file).name, seen.calls) for seen in health] == [("sample.py", 1)] * 3


def test_an_application_that_is_gone_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its id is on file, and no process has it any more."""
    monkeypatch.setenv(PROFILE, str(tmp_path))
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    (tmp_path / profile.APPLICATION_PID).write_text(str(child))
    ProfilingTimer(KEY, [], operations=1).end()
    assert [path.name for path in (tmp_path / digest(KEY)).iterdir()] == ["test.json"]


def test_without_an_application_settings_stay_as_they_are() -> None:
    """There is nothing to wrap."""
    assert profile.instead_of_application(Settings()) == Settings()
