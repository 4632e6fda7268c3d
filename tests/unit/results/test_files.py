import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from plumbline.results.files import ResultsError, dump_results, read_results, write_results, write_whole
from plumbline.results.schema import SCHEMA, Benchmark, BudgetResult, Environment, Reason, Results, TestOutcome

ROOT = Path(__file__).parents[2]


def benchmark(key: str, **fields: Any) -> Benchmark:
    return Benchmark(**({"key": key, "unit": "s", "verdict": None, "median": 0.001, "counts": {}} | fields))


def results(*benchmarks: Benchmark, **fields: Any) -> Results:
    environment = Environment(
        machine="m1",
        system="linux",
        architecture="x86_64",
        cpu="Xeon",
        cpu_count=2,
        kernel="6.12",
        python="3.11.9",
        services={"redis": "docker"},
        versions={"redis": "8.0"},
        pin=1,
        commit="0f1e2d3",
        dirty=False,
        packages={"redis": "7.0", "asyncpg": "0.30"},
    )
    values = {"schema": SCHEMA, "verdict": None, "environment": environment, "benchmarks": list(benchmarks)} | fields
    return Results(**values)


def rejection(path: Path, text: str | bytes) -> str:
    """Return the error message for a file with this content."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ResultsError) as error:
        read_results(path)
    assert str(path) in str(error.value)
    return str(error.value).replace(str(path), "FILE")


def edited(old: str, new: str) -> str:
    """Return a valid file in which one piece is replaced."""
    text = dump_results(results(benchmark("a.py::a")))
    assert text.count(old) == 1
    return text.replace(old, new)


def test_reasons_of_the_first_version_are_read_as_they_were(tmp_path: Path) -> None:
    """In schema 1 reasons were texts."""
    document = json.loads(dump_results(results(benchmark("a.py::a")))) | {"schema": 1}
    typed = {"kind": "compared", "number": 4}
    document["reasons"], document["benchmarks"][0]["reasons"] = ["redis is not ready"], ["slower in 5 processes", typed]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    read = read_results(path)
    assert read.reasons == [Reason("ended", "redis is not ready")]
    assert read.benchmarks[0].reasons == [Reason("ended", "slower in 5 processes"), Reason("compared", number=4)]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """A file with every kind of field comes back equal."""
    written = results(
        benchmark(
            "a.py::a[ü|\u2028]",
            verdict="regression",
            p99=0.002,
            samples_s=[0.001, 0.002],
            process_medians=[0.001, 0.0011],
            spread=0.01,
            pin=0,
            change=0.05,
            counts={"PUBLISH": 1.0},
            budgets=[BudgetResult("p95_ms", 1.0, 2.0, kept=False, note="a note")],
            reasons=[Reason("compared", number=4)],
        ),
        verdict="regression",
        exit_code=1,
        reasons=[Reason("slower_than_baseline", subjects=["a.py::a"])],
        deselected=["b.py::b"],
        tests=[TestOutcome("a.py::a", "failed", 0.25, message="line\nline", benchmark=True)],
    )

    write_results(tmp_path / "results.json", written)

    assert read_results(tmp_path / "results.json") == written


def test_the_file_is_json_with_the_documented_fields() -> None:
    """Schema, verdict, environment and benchmarks come first. Five fields of a benchmark are always present."""
    fields = json.loads(dump_results(results(benchmark("a.py::a"))))

    assert fields.keys() >= {"schema", "verdict", "environment", "benchmarks"}
    assert fields["schema"] == 2
    assert fields["benchmarks"] == [{"key": "a.py::a", "unit": "s", "verdict": None, "median": 0.001, "counts": {}}]


def test_each_benchmark_test_and_package_stands_on_a_line_of_its_own() -> None:
    """A diff shows one line for each change."""
    run = results(
        benchmark("a.py::a", warnings=["one", "two"]),
        benchmark("b.py::b"),
        tests=[TestOutcome("c.py::c", "passed", 0.1)],
    )

    lines = dump_results(run).splitlines()

    for text in ('"a.py::a"', '"b.py::b"', '"c.py::c"'):
        (line,) = [line for line in lines if text in line]
        assert json.loads(line.rstrip(","))["key"] == text.strip('"')
    assert [line for line in lines if "asyncpg" in line] == ['      "asyncpg": "0.30",']


def test_names_are_written_as_they_are_read() -> None:
    """A diff shows letters, not escapes."""
    text = dump_results(results(benchmark("a.py::a[ü 发布]"), notes=["für"]))

    assert "a.py::a[ü 发布]" in text
    assert "für" in text


def test_benchmarks_tests_and_packages_are_sorted() -> None:
    """The order of tests and packages in a run makes no difference."""
    b, a = benchmark("b.py::b"), benchmark("a.py::a")
    tests = [TestOutcome("b.py::b", "passed", 0.1), TestOutcome("a.py::a", "passed", 0.1)]

    fields = json.loads(dump_results(results(b, a, tests=tests)))

    assert [entry["key"] for entry in fields["benchmarks"]] == ["a.py::a", "b.py::b"]
    assert [entry["key"] for entry in fields["tests"]] == ["a.py::a", "b.py::b"]
    assert list(fields["environment"]["packages"]) == ["asyncpg", "redis"]


def test_figures_are_rounded_to_five_digits() -> None:
    """Floats have five significant digits, and whole numbers have all their digits."""
    run = results(benchmark("a.py::a", median=0.000123456789, samples_s=[1.23456789], operations=1234567))

    (entry,) = json.loads(dump_results(run))["benchmarks"]

    assert entry["median"] == 0.00012346
    assert entry["samples_s"] == [1.2346]
    assert entry["operations"] == 1234567


@pytest.mark.parametrize("figure", [float("nan"), float("inf"), float("-inf")])
def test_a_figure_that_is_none_is_not_written(tmp_path: Path, figure: float) -> None:
    """JSON has no NaN and no infinity. The old file stays."""
    path = tmp_path / "results.json"
    path.write_text("old")

    with pytest.raises(ResultsError, match=f"the results can't be written: a number is {figure}"):
        write_results(path, results(benchmark("a.py::a", counts={"commands": figure})))

    assert path.read_text() == "old"


def test_a_missing_file_is_the_caller_s_to_judge(tmp_path: Path) -> None:
    """A missing file raises FileNotFoundError, unlike a bad one."""
    with pytest.raises(FileNotFoundError):
        read_results(tmp_path / "results.json")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "FILE is empty"),
        (b" \n", "FILE is empty"),
        (b"\x00\xff\x00", "FILE is not a results file"),
        (b"no JSON", "FILE is not a results file"),
        (b"[]", "FILE is not a results file: Expected `object`"),
        (b"{}", "FILE is not a results file: Object missing required field `schema`"),
        (b'{"schema": "1"}', "FILE is not a results file: Expected `int`"),
    ],
    ids=["empty", "blank", "binary", "text", "list", "no schema", "schema as text"],
)
def test_what_is_not_a_results_file_is_refused(tmp_path: Path, text: bytes, told: str) -> None:
    """The message says what is wrong with the file."""
    message = rejection(tmp_path / "results.json", text)

    assert message.startswith(told)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    """The file may be cut off anywhere."""
    whole = dump_results(results(benchmark("a.py::a"), benchmark("b.py::b"))).rstrip()

    messages = [rejection(tmp_path / "results.json", whole[:end]) for end in range(1, len(whole))]

    assert all(message.startswith("FILE is not a results file: ") for message in messages)


@pytest.mark.parametrize(
    ("schema", "advice"),
    [(SCHEMA + 1, "update Plumbline"), (SCHEMA - 2, "record it again with `nox -s baseline`")],
    ids=["newer", "older"],
)
def test_another_schema_is_refused_with_what_to_do(tmp_path: Path, schema: int, advice: str) -> None:
    """The other fields are not read."""
    message = rejection(tmp_path / "results.json", json.dumps({"schema": schema, "figures": []}))

    assert message == f"FILE has schema {schema}, but this version of Plumbline reads {SCHEMA}: {advice}"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"median": 0.001', '"median": -0.001', "Expected `float` >= 0.0 - at `$.benchmarks[0].median`"),
        ('"median": 0.001', '"median": null', "Expected `float`, got `null` - at `$.benchmarks[0].median`"),
        ('"counts": {}', '"counts": {}, "samples_s": [0.1, -0.1]', "at `$.benchmarks[0].samples_s[1]`"),
        ('"counts": {}', '"counts": {}, "process_medians": [-0.1]', "at `$.benchmarks[0].process_medians[0]`"),
        ('"counts": {}', '"counts": {}, "spread": -0.1', "at `$.benchmarks[0].spread`"),
        ('"unit": "s", ', "", "missing required field `unit` - at `$.benchmarks[0]`"),
        ('"verdict": null, "median"', '"verdict": "fine", "median"', "value 'fine' - at `$.benchmarks[0].verdict`"),
        ('"python": "3.11.9"', '"python": 3.11', "Expected `str`, got `float` - at `$.environment.python`"),
    ],
)
def test_a_field_that_can_t_be_is_refused(tmp_path: Path, old: str, new: str, told: str) -> None:
    """The message names the wrong field."""
    message = rejection(tmp_path / "results.json", edited(old, new))

    assert message.startswith("FILE is damaged or was edited by hand: ")
    assert message.endswith(told)


@pytest.mark.parametrize("figure", ["NaN", "Infinity", "1e999"])
def test_a_figure_that_is_none_is_refused(tmp_path: Path, figure: str) -> None:
    """Other writers of JSON allow NaN and infinity."""
    message = rejection(tmp_path / "results.json", edited('"median": 0.001', f'"median": {figure}'))

    assert message.startswith(("FILE is not a results file: ", "FILE is damaged or was edited by hand: "))


@pytest.mark.parametrize("field", ["verdict", "environment", "benchmarks"])
def test_a_file_without_a_required_field_is_refused(tmp_path: Path, field: str) -> None:
    """The message names the missing field."""
    fields = json.loads(dump_results(results()))
    del fields[field]

    message = rejection(tmp_path / "results.json", json.dumps(fields))

    assert message.endswith(f"missing required field `{field}`")


def test_a_benchmark_that_stands_in_a_file_twice_is_refused(tmp_path: Path) -> None:
    """A careless merge can leave two entries with one key."""
    text = dump_results(results(benchmark("a.py::a"), benchmark("b.py::b"), benchmark("b.py::b")))

    message = rejection(tmp_path / "results.json", text)

    assert message == "FILE has the benchmark b.py::b twice"


def test_a_field_of_a_later_version_is_ignored(tmp_path: Path) -> None:
    """Later versions may add fields within a schema."""
    fields = json.loads(dump_results(results(benchmark("a.py::a")))) | {"later": 1}
    path = tmp_path / "results.json"
    path.write_text(json.dumps(fields))

    assert read_results(path) == results(benchmark("a.py::a"))


def test_a_folder_in_the_file_s_place_is_refused(tmp_path: Path) -> None:
    """The message has the reason of the operating system."""
    with pytest.raises(ResultsError, match="can't be read: Is a directory"):
        read_results(tmp_path)


def test_missing_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "results.json"

    write_results(path, results())

    assert read_results(path) == results()


def test_a_written_file_has_the_mode_of_any_other(tmp_path: Path) -> None:
    """Others can read the file as if it had been written directly."""
    write_whole(tmp_path / "file", "text")
    (tmp_path / "other").touch()

    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    """There is no temporary file after a second write."""
    path = tmp_path / "file"

    write_whole(path, "first")
    write_whole(path, "second")

    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


def test_text_that_utf_8_can_t_hold_is_written_with_a_question_mark(tmp_path: Path) -> None:
    """A message about a broken file name can have a lone surrogate."""
    path = tmp_path / "results.json"

    write_results(path, results(notes=["broken \udc80 name"]))

    assert read_results(path).notes == ["broken ? name"]


def test_a_path_below_a_regular_file_is_refused(tmp_path: Path) -> None:
    """The message has the path and the reason of the operating system."""
    (tmp_path / "file").touch()

    with pytest.raises(ResultsError, match=r"results\.json can't be written: (Not a directory|File exists)"):
        write_results(tmp_path / "file" / "results.json", results())


def test_a_folder_in_the_new_file_s_place_leaves_no_temporary_file(tmp_path: Path) -> None:
    """The temporary file is removed if the last step fails."""
    (tmp_path / "results.json" / "full").mkdir(parents=True)

    with pytest.raises(ResultsError, match=r"can't be written: .*; this file is unchanged"):
        write_results(tmp_path / "results.json", results())

    assert list(tmp_path.iterdir()) == [tmp_path / "results.json"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for 16 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = sys.platform.startswith("linux") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "none", folder], capture_output=True, check=False
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip("a small disk can be mounted by root on Linux alone")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_leaves_the_old_file_as_it_was(small_disk: Path) -> None:
    """There is no temporary file, and the message says that the file is unchanged."""
    path = small_disk / "results.json"
    path.write_text("old")

    with pytest.raises(ResultsError, match="No space left on device; this file is unchanged"):
        write_results(path, results(benchmark("a.py::a", samples_s=[0.001] * 10_000)))

    assert path.read_text() == "old"
    assert list(small_disk.iterdir()) == [path]


def test_a_write_cut_off_half_way_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    """The operating system stops the write after its first bytes."""
    path = tmp_path / "results.json"
    path.write_text("old")
    program = f"""if True:
        import pathlib, resource
        from plumbline.results.files import ResultsError, write_whole
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_whole(pathlib.Path({str(path)!r}), "x" * 2000)
        except ResultsError as error:
            print(error)
        """

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout == f"{path} can't be written: File too large; this file is unchanged\n"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_written_through_a_link(tmp_path: Path) -> None:
    """The link stays, and its target has the new content."""
    target, link = tmp_path / "elsewhere" / "target", tmp_path / "link"
    target.parent.mkdir()
    target.write_text("first")
    link.symlink_to(target)

    write_whole(link, "second")

    assert link.is_symlink()
    assert target.read_text() == "second"


def test_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    """A broken link, for example one whose target was not committed, is not a missing file."""
    link = tmp_path / "results.json"
    link.symlink_to(tmp_path / "gone")

    with pytest.raises(ResultsError, match="is a link to a file that does not exist"):
        read_results(link)


@pytest.mark.parametrize("figure", ["median", "spread", "mean"])
def test_a_figure_that_is_out_of_range_is_refused(tmp_path: Path, figure: str) -> None:
    """Arithmetic with it would overflow."""
    fields = json.loads(dump_results(results(benchmark("a.py::a"))))
    fields["benchmarks"][0][figure] = 1e300

    message = rejection(tmp_path / "results.json", json.dumps(fields))

    assert message.startswith("FILE is damaged or was edited by hand: ")


def test_the_time_to_read_grows_with_the_entries(tmp_path: Path) -> None:
    """With 4 times as many entries, quadratic time would be 16 times as long."""

    def fastest_s(count: int) -> float:
        path = tmp_path / f"{count}.json"
        entries = [benchmark(f"a.py::test_{number}") for number in range(count)]
        path.write_bytes(msgspec.json.encode(results(*entries)))
        times_s = []
        for _ in range(3):
            began_s = time.process_time()
            assert len(read_results(path).benchmarks) == count
            times_s.append(time.process_time() - began_s)
        return min(times_s)

    gc.disable()  # each object is an occasion to look at all others
    try:
        assert fastest_s(32_000) < 9 * fastest_s(8_000)
    finally:
        gc.enable()


def test_what_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    """Deep nesting raises ResultsError, not RecursionError."""
    assert "is not a results file" in rejection(tmp_path / "results.json", "[" * 200_000)


def test_a_baseline_of_the_first_version_is_read(tmp_path: Path) -> None:
    """Its schema has another number, and another name for machine speed."""
    text = dump_results(results(benchmark("a.py::a", machine_speed_s=1e-4)))
    text = text.replace('"schema": 2', '"schema": 1').replace('"machine_speed_s"', '"pace_s"')
    path = tmp_path / "baseline.json"
    path.write_text(text)

    assert read_results(path).benchmarks[0].machine_speed_s == 1e-4


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="only Linux has files without a name")
def test_a_process_that_is_killed_while_it_writes_leaves_nothing(tmp_path: Path) -> None:
    """`git add` of the folder must not add a partial file."""
    path = tmp_path / "baseline.json"
    write_whole(path, "first")
    code = (
        "import os, pathlib, signal, sys\nfrom plumbline.results.files import write_whole\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\nwrite_whole(pathlib.Path(sys.argv[1]), 'second')"
    )

    subprocess.run([sys.executable, "-c", code, str(path)], check=False)

    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "first"


def test_a_pipe_is_written_and_stays_a_pipe(tmp_path: Path) -> None:
    """Without a reader, it is refused: opening it would wait. Nor is a pipe read."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(ResultsError, match="can't be written: no process reads this pipe"):
        write_whole(path, "text")
    with pytest.raises(ResultsError, match="can't be read: it is a pipe or a device"):
        read_results(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(path, "text")
    assert os.read(reader, 100) == b"text"
    os.close(reader)
    assert path.is_fifo()
    assert [*tmp_path.iterdir()] == [path]


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    """`/dev/stdout` is a link to whatever the output goes to, such as a file, which is not replaced."""
    log = tmp_path / "log"
    code = "import pathlib, sys\nfrom plumbline.results.files import write_whole\n"
    code += "print('first')\nwrite_whole(pathlib.Path('/dev/stdout'), 'then')"
    with log.open("w") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
    assert log.read_text() == "first\nthen"
    (tmp_path / "null").symlink_to("/dev/null")
    write_whole(tmp_path / "null", "text")
    assert (tmp_path / "null").is_char_device()
    if (full := Path("/dev/full")).exists():
        with pytest.raises(ResultsError, match="/dev/full can't be written: No space left on device"):
            write_whole(full, "text")
