"""Allocations and peak memory, in the test's process and in an application, with the lines that allocate more."""

import gc
import json
import mmap
import os
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import memray
import pytest
from msgspec.structs import replace

from plumbline.counting.counter import Counter, counts_of
from plumbline.counting.families import more
from plumbline.counting.memory import MemoryReader
from plumbline.counting.probes import ProbeSource
from plumbline.judging.counts import compare_counts
from plumbline.judging.explaining import explaining
from plumbline.results.schema import CallSite, CountChange, Counts
from plumbline.services.at_start import plumbline_probes
from plumbline.services.at_start.plumbline_probes import Probes
from plumbline.services.guard import AT_START
from plumbline.services.services import Services
from plumbline.settings_file import load_settings
from tests.unit.counting.conftest import Pass
from tests.unit.counting.on_loops import LOOPS, counted, served

HERE = Path(__file__)
SOURCES = {"memory": MemoryReader()}
ROOT = HERE.parents[3]
APPLICATION = """
    import json

    from fastapi import FastAPI, Response

    app = FastAPI()
    ITEMS = [{"id": number, "name": f"item {number}"} for number in range(300)]

    @app.get("/health")
    async def health():
        return "well"

    @app.get("/report")
    async def report(doubled: bool):
        text = json.dumps(ITEMS)
        if doubled:
            text = json.dumps(json.loads(text))  # more
        return Response(text)
"""


def line_of(mark: str, text: str) -> int:
    """Return the number of the line that ends with a comment."""
    [line] = [number for number, line in enumerate(text.splitlines(), start=1) if line.endswith(f"# {mark}")]
    return line


def blocks(body: Callable[[], object], rounds: int = 4) -> Any:
    """Return what the probe finds in each block of this process, or why it finds nothing."""
    probes = Probes([str(ROOT)])
    if failed := probes.begin(["memory"]):
        return failed["memory"]
    try:
        for _ in range(rounds):
            probes.enter()
            body()
            probes.leave()
    finally:
        found = probes.end()
    return found["memory"]


def counted_here(body: Callable[[], object]) -> Counts:
    """Count what a body does in this process."""
    source = ProbeSource(SOURCES, Path("no sockets"), [str(ROOT)], pytest.fail)
    source.begin()
    for _ in range(4):
        source.enter()
        body()
        source.leave()
    return counts_of([(source, source.end()[2:])], 1, [])


@pytest.fixture(scope="module", params=LOOPS)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with served(tmp_path_factory.mktemp("memory"), APPLICATION, request.param, memory=True) as services:
        yield services


async def test_a_json_text_that_an_application_encodes_twice(shop: Services) -> None:
    once, twice = [await counted(shop, f"/report?doubled={doubled}") for doubled in (False, True)]
    changes = {change.name: change for change in compare_counts(once, twice)}
    line = line_of("more", textwrap.dedent(APPLICATION))
    assert changes["app.allocations"].gated
    first = changes["app.allocations"].sites[0]
    assert (first.file, first.line, first.function, first.process) == ("shop.py", line, "report", "app")
    assert explaining([*changes.values()])[0].name == "app.allocations"


async def test_an_application_that_does_not_change(shop: Services) -> None:
    one, other = [await counted(shop, "/report?doubled=0") for _ in range(2)]
    assert {"test.allocations", "app.allocations"} <= {*one.families}
    assert one.same["app.peak_bytes"] > 10_000
    assert [change.name for change in compare_counts(one, other) if change.gated] == []


def test_a_list_in_place_of_a_generator() -> None:
    def generator() -> int:
        return sum(number * number for number in range(20_000))

    def built() -> int:
        return sum([number * number for number in range(20_000)])  # built

    before, after = counted_here(generator), counted_here(built)
    changes = {change.name: change for change in compare_counts(before, after)}
    line = line_of("built", HERE.read_text(encoding="utf-8"))
    for name in ("test.allocations", "test.peak_bytes"):
        change = changes[name]
        assert change.gated
        assert change.sites == [CallSite(str(HERE.relative_to(ROOT)), line, "built", change.new)]
    assert changes["test.peak_bytes"].new > 20_000 * 8
    assert not any(change.gated for change in compare_counts(after, before))


def test_lines_are_not_named_without_those_before() -> None:
    """Most lines allocate: a baseline, which has no lines, can't tell which of them allocate more."""
    before, after = counted_here(lambda: bytes(1000)), counted_here(lambda: [bytes(1000) for _ in range(9)])
    changes = {change.name: change for change in compare_counts(before, after, is_baseline=True)}
    assert changes["test.allocations"] == CountChange("test.allocations", 1, 9, gated=True)


def test_blocks_are_alike() -> None:
    def work() -> object:
        return json.loads(json.dumps([{"n": number} for number in range(2000)]))

    first, *_, third, fourth = blocks(work)
    assert first["allocations"] == 0  # before the tracker begins
    assert third == fourth
    assert third["allocations"] > 10


def test_allocations_of_plumbline_are_not_counted() -> None:
    def harness() -> None:
        time.sleep(0.01)

    # Its code is in a file of Plumbline, as that of the threads that watch connections.
    code = "def allocate(over):\n    while not over():\n        bytes(10_000)\n"
    scope: dict[str, Any] = {}
    exec(compile(code, str(AT_START.parent / "watching.py"), "exec"), scope)  # noqa: S102
    over = threading.Event()
    thread = threading.Thread(target=scope["allocate"], args=(over.is_set,))
    thread.start()
    try:
        assert [block["allocations"] for block in blocks(harness)[2:]] == [0, 0]
    finally:
        over.set()
        thread.join()


def test_the_collector_is_as_before() -> None:
    assert gc.isenabled()
    blocks(lambda: sum(range(10_000)))
    assert gc.isenabled()
    assert sys.getprofile() is None


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the file stays until the end")
def test_a_killed_process_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even while allocations are traced."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files = list[Path]()

    def body() -> None:
        sum(range(10_000))
        files.extend(tmp_path.iterdir())

    found = blocks(body)
    assert found
    assert files == []


def test_a_process_that_forks() -> None:
    """The child is not followed, and goes on as before."""
    probes = Probes([str(ROOT)])
    probes.begin(["memory"])
    codes = []
    for _ in range(3):
        probes.enter()
        sum(range(10_000))
        if child := os.fork():
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        else:
            try:
                bytes(100_000)
                os._exit(0 if probes.end() == {"memory": []} and gc.isenabled() else 1)
            finally:
                os._exit(2)
        probes.leave()
    *_, found = probes.end()["memory"]
    assert codes == [0, 0, 0]
    assert found["peak_bytes"] < 100_000
    assert found["uncounted"] == ["those of child processes"]


def test_a_program_that_a_block_runs_is_noted() -> None:
    """Only in the rounds that run it."""
    commands = iter([None, None, [sys.executable, "-c", ""], None])

    def run() -> None:
        sum(range(10_000))
        if command := next(commands):
            subprocess.run(command, check=True)

    assert [bool(block["uncounted"]) for block in blocks(run)] == [False, False, True, False]


def test_memory_that_is_mapped_is_noted() -> None:
    notes = list[str]()
    source = ProbeSource(SOURCES, Path("no sockets"), [str(ROOT)], notes.append)
    source.begin()
    for _ in range(3):
        source.enter()
        mmap.mmap(-1, 4_000_000).close()
        sum(range(10_000))
        source.leave()
    source.end()
    assert {*notes} == {"allocations don't include memory that an extension maps (in test)"}


def test_an_idle_process_has_no_blocks() -> None:
    answers: list[Any] = []
    answering = threading.Thread(target=lambda: answers.append(blocks(lambda: None)))
    answering.start()
    answering.join()
    assert answers == [[]]


def test_another_tracker(tmp_path: Path) -> None:
    with memray.Tracker(tmp_path / "theirs.bin"):
        assert "No more than one Tracker" in blocks(lambda: sum(range(10_000)))


def test_an_old_greenlet(monkeypatch: pytest.MonkeyPatch) -> None:
    """memray would crash the process."""
    monkeypatch.setitem(sys.modules, "greenlet", types.SimpleNamespace(__version__="1.1.3"))
    assert blocks(list) == "memray needs greenlet 2 or newer, and this is 1.1.3"


def test_a_benchmark_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[plumbline_probes._class_of("memory").__module__]
    monkeypatch.setattr(module, "CPU_LIMIT_S", 0.001)
    assert blocks(lambda: sum(range(1_000_000))).startswith("its blocks take more than 0.001 s of CPU time")


@pytest.mark.parametrize(("has_memray", "editable"), [(False, False), (True, False), (True, True)])
def test_an_application_whose_environment_lacks_memray(tmp_path: Path, *, has_memray: bool, editable: bool) -> None:
    """It takes that of Plumbline's environment, without the packages that memray needs."""
    packages = tmp_path / "site-packages"
    packages.mkdir()
    place = tmp_path / "source" if editable else packages
    place.mkdir(exist_ok=True)
    (place / "plumbline").symlink_to(AT_START.parents[1])
    for found in Path(sysconfig.get_path("purelib")).iterdir() if has_memray else ():
        if not (packages / found.name).exists():
            (packages / found.name).symlink_to(found)
    code = """if True:
        import contextlib, sys
        sys.path.append(sys.argv[2])
        with contextlib.suppress(ImportError):
            import greenlet  # of which memray warns, with a package that it needs
        sys.path[-1:] = []
        sys.path.insert(0, sys.argv[1])
        from plumbline_probes import Probes
        probes = Probes(["/nowhere"])
        print(probes.begin(["memory"]))
        for _ in range(3):
            probes.enter()
            lists = [list(range(1000)) for _ in range(100)]
            probes.leave()
        print([block["allocations"] for block in probes.end().get("memory", [])], "rich" in sys.modules)
    """
    at_start = place / "plumbline/services/at_start"
    environ = {**os.environ, **({"PLUMBLINE_PACKAGES": str(packages)} if editable else {})}
    command = [sys.executable, "-I", "-S", "-c", code, str(at_start), str(packages)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    begun, counted = ended.stdout.splitlines()
    if has_memray:
        assert (begun, counted) == ("{}", "[0, 103, 103] False")
    else:
        assert "memray is not installed" in begun
        assert counted == "[] False"


def test_memray_is_not_installed_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says so, and the run goes on."""
    monkeypatch.setitem(sys.modules, "memray", None)
    notes: list[str] = []
    source = ProbeSource(SOURCES, Path("no sockets"), [str(ROOT)], notes.append)
    source.begin()
    source.enter()
    source.leave()
    assert source.end() == [{}]
    assert source.families == []
    assert {*notes} == {
        "allocations can't be counted in test: memray is not installed: install the extra `memory` of pytest-plumbline,"
        " or set counts.memory = false"
    }


def test_memory_may_be_off(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('backend = "off"\ncounts.memory = false\n', encoding="utf-8")
    with closing(Counter(Services(load_settings(tmp_path / "settings.toml", {}), tmp_path, environ={}))) as counter:
        rounds = Pass(counter)
        for timer in rounds:
            with timer:
                bytes(10_000)
    assert "test.allocations" not in rounds.counts.families


def test_the_peak_is_that_of_the_whole_block() -> None:
    source = ProbeSource(SOURCES, Path("no sockets"), [str(ROOT)], pytest.fail)
    source.begin()
    for _ in range(4):
        source.enter()
        both = [bytes(100_000), bytes(100_000)]
        source.leave()
        del both
    counts = counts_of([(source, source.end()[2:])], 2, [])
    assert counts.same["test.allocations"] == 1
    assert counts.same["test.peak_bytes"] >= 200_000


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("app.allocations", 100, 105, False),
        ("app.allocations", 100, 106, True),
        ("app.allocations", 0, 2, False),
        ("app.peak_bytes", 100_000, 110_000, False),
        ("app.peak_bytes", 100_000, 111_000, True),
    ],
)
def test_what_is_allowed(name: str, old: float, new: float, *, expected: bool) -> None:
    assert more(name, old, new) is expected


def test_another_python_allocates_otherwise() -> None:
    old, new = (Counts({"test.allocations": count}, {}, ["test.allocations"]) for count in (10.0, 100.0))
    assert len(compare_counts(old, new)) == 1
    assert compare_counts(old, new, same_python=False) == []


def test_statements_explain_allocations() -> None:
    memory = [CountChange(f"app.{kind}", 1000, 9000, gated=True) for kind in ("allocations", "peak_bytes")]
    statement = CountChange("postgres.statement SELECT 1", 1, 51, gated=True)
    assert explaining([*memory, statement]) == [statement]
    parse = CountChange("postgres.parse SELECT 1", 1, 51, gated=True)
    assert explaining([parse, statement]) == [statement]
    assert explaining([parse, replace(statement, new=2)]) == [parse, replace(statement, new=2)]
    assert explaining(memory) == memory[:1]
    assert explaining(memory[1:]) == memory[1:]
