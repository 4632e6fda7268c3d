"""Lines of the history: what is kept, its size, and lines that cannot be used."""

import gzip
import random
from pathlib import Path

import pytest

from plumbline.results.files import ResultsError
from plumbline.results.history import (
    HISTORY_SCHEMA,
    Entry,
    History,
    Run,
    file_of,
    line_of,
    read_folder,
    read_lines,
    write_line,
)

FILE, NAME = "test_a.py", "test_b[1 kB]"


def run(day: int = 1, commit: str = "a" * 40, entry: Entry = Entry(57_123.4, 2, None, 3)) -> Run:  # noqa: B008
    return Run(HISTORY_SCHEMA, commit, f"2026-11-{day:02}T10:00:00+00:00", "linux", "pass", {FILE: {NAME: entry}})


def read(text: str | bytes) -> History:
    return read_lines([("main.jsonl", text if isinstance(text, bytes) else text.encode())])


def test_a_line_keeps_four_digits_and_no_unknown_figures_at_its_end() -> None:
    line = line_of(run(entry=Entry(57_123.4, 2, None, 3, None, -12.3456, 40.0)))
    assert b"[57120,2,null,3,null,-12.35,40]" in line
    assert b'{"test_b[1 kB]":[57120,2,null,3]}' in line_of(run())

    [found] = read(line).runs
    assert found.entry(f"{FILE}::{NAME}") == Entry(57_120, 2, None, 3, None, -12.35, 40)
    assert found.keys == [f"{FILE}::{NAME}"]
    assert found.entry("test_a.py::test_other") is None


def test_each_run_has_a_file_of_its_own_whose_name_sorts_by_time(tmp_path: Path) -> None:
    """Two runs of one commit in the same second, too. The newest runs are found without reading the others."""
    written = [write_line(tmp_path, one) for one in (run(2), run(1), run(2, entry=Entry(1.0)))]
    assert len({*written}) == 3
    assert written[0].relative_to(tmp_path).as_posix().startswith("2026-11/2026-11-02T100000Z-aaaaaaaaaa-")
    assert write_line(tmp_path, run(2)) == written[0]
    written[1].write_bytes(b"unreadable")

    assert len(read_lines(read_folder(tmp_path)).problems) == 1
    found = read_lines(read_folder(tmp_path, 2))
    assert (len(found.runs), found.problems) == (2, [])


def test_ten_thousand_runs_are_below_20_mb() -> None:
    """Of 60 benchmarks with names of usual length, whose figures all differ."""
    some = random.Random(1)
    keys = [f"test_{some.choice(['orders', 'customers', 'search'])}_{number}_by_{number % 7}" for number in range(60)]
    sizes = []
    for _ in range(30):
        entries = {key: Entry(*[some.uniform(1e3, 1e7) for _ in range(7)]) for key in keys}
        commit = f"{some.getrandbits(160):040x}"
        sizes.append(
            len(file_of(Run(HISTORY_SCHEMA, commit, run().date, "linux" * 10, "pass", {FILE: entries}, commit[:10]))[1])
        )
    assert sum(sizes) / len(sizes) * 10_000 < 20e6


def test_a_conflict_and_another_schema_are_reported_and_the_rest_is_used() -> None:
    """Nothing is lost: lines of both sides of a conflict count, and a line that both have counts once."""
    first, second, third = (line_of(run(day)).decode() for day in (1, 2, 3))
    newer = second.replace('"schema":1', '"schema":2')
    text = f"{first}<<<<<<< HEAD\n{second}=======\n{first}{third}>>>>>>> abc\n{newer}{{half\n\n"

    found = read(text)

    assert [one.date[8:10] for one in found.runs] == ["01", "02", "03"]
    conflict = "the mark of a merge conflict (the lines of both sides are used)"
    assert found.problems == [
        f"main.jsonl:2: {conflict}",
        f"main.jsonl:4: {conflict}",
        f"main.jsonl:7: {conflict}",
        "main.jsonl:8: has schema 2, but this version of Plumbline reads 1: update Plumbline",
        "main.jsonl:9: not a line of the history, or damaged",
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"schema":1}', "main.jsonl:1: damaged or edited by hand"),
        (b'{"schema":0}', "main.jsonl:1: has schema 0, but this version of Plumbline reads 1"),
        (line_of(run(commit="$(reboot)")), "main.jsonl:1: damaged or edited by hand"),
        (line_of(run(entry=Entry(-1.0))), "main.jsonl:1: damaged or edited by hand"),
        (line_of(run(entry=Entry(change_e4=1e300))), "main.jsonl:1: damaged or edited by hand"),
        (b"\xff\xfe", "main.jsonl:1: not a line of the history, or damaged"),
        (b"[" * 100_000, "main.jsonl:1: not a line of the history, or damaged"),
        (gzip.compress(line_of(run()))[:-9], "main.jsonl: can't be read: Compressed file ended"),
        (ResultsError("Permission denied"), "main.jsonl: can't be read: Permission denied"),
    ],
)
def test_a_file_that_cannot_be_used_is_reported_in_one_line(content: bytes | ResultsError, problem: str) -> None:
    found = read_lines([("main.jsonl", content), ("other.jsonl", line_of(run()))])
    assert len(found.runs) == 1
    [said] = found.problems
    assert said.startswith(problem)
