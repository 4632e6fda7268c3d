"""The baseline as it is in the base commit."""

from pathlib import Path

from plumbline.comparing.base_baseline import baseline_at, edited_entries
from plumbline.comparing.trees.git import Base
from plumbline.results.files import dump_results
from plumbline.results.schema import Results
from tests.support.report_samples import benchmark, results
from tests.support.repository import Repository

FILE = Path("tests/performance/baselines/linux.json")


def of(*medians: float) -> Results:
    """A baseline of benchmarks that are numbered."""
    return results(*(benchmark(f"a.py::test_{n}", None, process_medians=[median]) for n, median in enumerate(medians)))


def test_entries_with_other_medians_are_edited() -> None:
    """Neither new ones nor those that are gone."""
    assert edited_entries(of(1.0, 2.0), of(1.0, 3.0, 4.0)) == {"a.py::test_1"}
    assert edited_entries(of(1.0, 2.0), of(1.0)) == set()


def test_without_a_baseline_nothing_is_edited() -> None:
    """In the base, or now."""
    assert edited_entries(None, of(1.0)) == set()
    assert edited_entries(of(1.0), None) == set()


def test_the_baseline_of_the_base_is_read_from_its_commit(tmp_path: Path) -> None:
    """Not from the working tree; a file that is not there or is damaged is none."""
    name = FILE.as_posix()
    repository = Repository.create(tmp_path / "repository", {name: dump_results(of(1.0))})
    first = Base(repository.head(), "as asked")
    second = Base(repository.commit({name: "damaged"}), "as asked")
    repository.write({name: dump_results(of(2.0))})
    file = repository.root / FILE

    found = baseline_at(repository.root, first, file)

    assert found is not None
    assert found.benchmarks[0].process_medians == [1.0]
    assert baseline_at(repository.root, second, file) is None
    assert baseline_at(repository.root, first, file.with_name("other.json")) is None
