"""`nox -s baseline`: what it records, and that an error never damages the old baseline."""

import contextlib
import os
import platform
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from plumbline.measuring.statistics import log_spread
from plumbline.results.files import read_results
from plumbline.results.schema import Benchmark, Results
from tests.support.project import Done, Project, finish

ADDITION, SORTING = "test_suite.py::test_addition", "test_suite.py::test_sorting"
JOINING, COUNTING = "test_words.py::test_joining", "test_words.py::test_counting"


class Recorded(NamedTuple):
    """A baseline before and after a recording."""

    project: Project
    done: Done
    old: Results
    new: Results


def entries(baseline: Results) -> dict[str, Benchmark]:
    """Return the benchmarks by key."""
    return {benchmark.key: benchmark for benchmark in baseline.benchmarks}


def left_in(folder: Path) -> list[str]:
    """Return the names of all files, including hidden ones."""
    return sorted(path.name for path in folder.iterdir())


def record(project: Project, *arguments: str, **environ: str) -> Recorded:
    """Record again, and read the baseline before and after."""
    old = read_results(project.baseline())
    done = project.run("baseline", *arguments, **environ)
    return Recorded(project, done, old, read_results(project.baseline()))


@pytest.fixture(scope="module")
def first(recorded_project: Project) -> Results:
    """The first baseline, of a clean working tree."""
    return read_results(recorded_project.baseline())


@pytest.fixture(scope="module")
def second(recorded_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A recording after changes to the suite: one benchmark slower, one deleted, one renamed, one new."""
    project = recorded_project.copy(tmp_path_factory.mktemp("second") / "project")
    project.edit("test_suite.py", "def test_sorting", "def test_ordering")
    project.edit("test_words.py", "def test_counting", "def test_tallying")
    project.edit(
        "test_words.py",
        "3000\n    for timer in measure()",
        f'3000\n    for timer in measure(renamed_from="{COUNTING}")',
    )
    project.write("test_full.py", "import pytest\n\n\n@pytest.mark.full\ndef test_at_length(measure) -> None: ...\n")
    return record(project, SLOWER="6")


@pytest.fixture(scope="module")
def part(recorded_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A recording of one benchmark only."""
    project = recorded_project.copy(tmp_path_factory.mktemp("part") / "project")
    return record(project, "-k", "addition", SLOWER="6")


# ---- the recording


def test_the_file_is_named_after_the_kind_of_machine(recorded_project: Project) -> None:
    """By system, architecture, CPU and backend."""
    name = recorded_project.baseline().name
    assert name.startswith(f"{platform.system().lower()}-{platform.machine().lower().replace('_', '-')}-")
    assert name.endswith("-none.json")
    assert left_in(recorded_project.suite / "baselines") == [name]


def test_each_benchmark_is_measured_in_fresh_processes(first: Results) -> None:
    """The file has the median of each process, the median of these, and their spread."""
    assert set(entries(first)) == {ADDITION, SORTING, JOINING, COUNTING}
    for benchmark in first.benchmarks:
        assert len(benchmark.process_medians) == 3
        assert benchmark.median == pytest.approx(sorted(benchmark.process_medians)[1], rel=1e-3)
        assert benchmark.spread == pytest.approx(log_spread(benchmark.process_medians), abs=1e-3)
        assert benchmark.source_hash
        assert benchmark.p95 >= benchmark.median


def test_the_environment_is_recorded(first: Results) -> None:
    """Everything but the code that affects the timings."""
    environment = msgspec.to_builtins(first.environment)
    assert all(
        environment[name] for name in ("machine", "system", "architecture", "cpu", "cpu_count", "kernel", "python")
    )
    assert environment["services"] == {}
    assert environment["pin"] is None
    assert {"pytest", "redis", "asyncpg"} <= environment["packages"].keys()


def test_the_commit_is_recorded(recorded_project: Project, first: Results) -> None:
    """And that the working tree was clean."""
    assert first.environment.commit == recorded_project.git("rev-parse", "HEAD")
    assert first.environment.dirty is False


def test_uncommitted_changes_are_recorded_and_reported(second: Recorded) -> None:
    """The commit alone would be misleading."""
    assert second.new.environment.dirty is True
    assert "the working tree has uncommitted changes" in second.done.output


def test_changes_from_the_old_baseline_are_printed(second: Recorded) -> None:
    """Slower, new and deleted benchmarks."""
    assert second.done.code == 0, second.done.output
    lines = second.done.output.splitlines()
    [slower] = [line for line in lines if line.endswith(ADDITION) and "%" in line]
    assert float(slower.split()[0].strip("+%")) > 200
    assert any(line.split() == ["new", "test_suite.py::test_ordering"] for line in lines)
    assert any(line.split() == ["gone", SORTING] for line in lines)


def test_a_deleted_benchmark_is_removed_from_the_baseline(second: Recorded) -> None:
    """Otherwise the gate would report it as missing. So is the old name of a renamed one."""
    assert set(entries(second.new)) == {
        ADDITION,
        JOINING,
        "test_suite.py::test_ordering",
        "test_words.py::test_tallying",
    }


def test_a_part_of_the_suite_can_be_recorded(part: Recorded) -> None:
    """The entries of the other benchmarks stay."""
    assert part.done.code == 0, part.done.output
    old, new = entries(part.old), entries(part.new)
    assert new[ADDITION].median > 2 * old[ADDITION].median
    for key in (SORTING, JOINING, COUNTING):
        assert new[key] == old[key]


def test_a_part_is_not_recorded_into_another_machine_s_baseline(recorded: Project) -> None:
    """A file must not mix figures of two machines."""
    before = recorded.baseline().read_text(encoding="utf-8")

    done = recorded.run("baseline", "-k", "addition", PERF_MACHINE="elsewhere")

    assert done.code == 2, done.output
    assert "another machine" in done.output
    assert recorded.baseline().read_text(encoding="utf-8") == before


# ---- the old baseline


@contextlib.contextmanager
def unchanged(project: Project) -> Iterator[None]:
    """Fails if the old baseline has changed, or if there are other files beside it."""
    path = project.baseline()
    before, names = path.read_bytes(), left_in(path.parent)
    yield
    assert path.read_bytes() == before
    assert left_in(path.parent) == names


def test_after_a_failed_test_the_old_baseline_stays(recorded: Project) -> None:
    """Timings of broken code are no baseline."""
    recorded.write("test_plain.py", "def test_hygiene() -> None:\n    assert not ['left open']\n")

    with unchanged(recorded):
        done = recorded.run("baseline")

    assert done.code == 1, done.output
    assert "no baseline is written because tests failed: test_plain.py::test_hygiene" in done.output


def test_if_nothing_was_measured_the_old_baseline_stays(recorded: Project) -> None:
    """An empty baseline would let everything pass."""
    with unchanged(recorded):
        done = recorded.run("baseline", "-k", "nothing_of_that_name")

    assert done.code == 3, done.output
    assert "no baseline is written: nothing was measured" in done.output


def test_after_a_kill_the_old_baseline_stays(recorded: Project) -> None:
    """The file is written at the end, atomically."""
    with unchanged(recorded):
        process = recorded.start("baseline", TMPDIR=str(recorded.root))
        assert process.stdout is not None
        assert any(line.startswith("process 2 of 3") for line in process.stdout)
        os.killpg(process.pid, signal.SIGKILL)
        assert finish(process).code == -signal.SIGKILL


@pytest.fixture
def full_disk(recorded: Project) -> Iterator[Project]:
    """The baseline on a full disk."""
    if os.geteuid() != 0 or platform.system() != "Linux":
        pytest.skip("a small disk can be mounted by root on Linux alone")
    baseline = recorded.baseline()
    folder, text = baseline.parent, baseline.read_bytes()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.strip()}")
    try:
        baseline.write_bytes(text)
        with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)
        yield recorded
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_on_a_full_disk_the_old_baseline_stays(full_disk: Project) -> None:
    """The reason is reported, and no incomplete file is left."""
    with unchanged(full_disk):
        done = full_disk.run("baseline")

    assert done.code == 3, done.output
    assert "can't be written: No space left on device" in done.output


def test_an_unreadable_baseline_is_replaced_and_reported(recorded: Project) -> None:
    """Only by a full recording. A partial one would lose the other entries, and is refused."""
    recorded.baseline().write_text("{", encoding="utf-8")

    part = recorded.run("baseline", "-k", "addition")
    whole = recorded.run("baseline")

    assert part.code == 3, part.output
    assert whole.code == 0, whole.output
    assert "replacing the old baseline, which can't be read" in whole.output
    assert len(read_results(recorded.baseline()).benchmarks) == 4


def test_a_diff_of_the_baseline_is_readable(recorded_project: Project) -> None:
    """One line per benchmark, sorted by key, in plain JSON."""
    text = recorded_project.baseline().read_text(encoding="utf-8")
    baseline: Any = msgspec.json.decode(text)
    keys = [benchmark["key"] for benchmark in baseline["benchmarks"]]
    assert keys == sorted(keys)
    assert sum('"key": ' in line for line in text.splitlines()) == len(keys)


# ---- the base of later changes


def test_a_commit_that_cannot_run_is_reported_with_the_first_baseline(
    recorded_project: Project, tmp_path: Path
) -> None:
    """The baseline is written anyway. A setting turns the error into a warning."""
    project = recorded_project.copy(tmp_path / "project")
    project.edit("test_suite.py", "import os\n", "import os\n\nimport shop\n")
    (project.root / "shop.py").write_text("import not_there\n")
    project.commit()
    (project.root / "shop.py").write_text("")

    found = record(project, "-k", "addition")

    assert found.done.code == 3, found.done.output
    assert "the baseline is written, but later changes can't be compared" in found.done.output
    assert "No module named 'not_there'" in found.done.output
    assert found.new.created > found.old.created

    project.edit("settings.toml", "[gate]", "[gate]\nallow_unmeasured = true")
    allowed = record(project, "-k", "addition")
    assert allowed.done.code == 0, allowed.done.output
    assert "because settings.toml has allow_unmeasured = true" in allowed.done.output


def test_a_benchmark_that_the_last_commit_does_not_have_is_no_problem(
    recorded_project: Project, tmp_path: Path
) -> None:
    """Its code is as new as the benchmark."""
    project = recorded_project.copy(tmp_path / "project")
    (project.root / "shop.py").write_text("")
    body = "    for timer in measure():\n        with timer:\n            sum(range(99))\n"
    project.write("test_new.py", f"import shop\n\n\ndef test_new(measure):\n{body}")

    done = project.run("baseline", "tests/performance/test_new.py")

    assert done.code == 0, done.output
    shown = done.output.replace("\n\n", "\n")
    assert "checking whether later changes can be compared with this commit\nthey can" in shown
