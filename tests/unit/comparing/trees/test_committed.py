"""The baselines, accepted regressions and benchmarks of a base commit."""

from pathlib import Path

import pytest

from plumbline.comparing.trees.base import Base
from plumbline.comparing.trees.committed import accepted_at, baselines_at, benchmarks_only_at
from plumbline.judging.evidence import Accepted
from plumbline.results.files import dump_results
from tests.support.report_samples import benchmark, results
from tests.support.repository import Repository

FOLDER = "tests/performance/baselines"


@pytest.mark.parametrize("linked", [False, True])
def test_they_are_read_from_the_commit(tmp_path: Path, linked: bool) -> None:
    """The working tree has others. Damaged files are left out. Git itself follows no links."""
    old = dump_results(results(benchmark("a.py::test_it", None)))
    accepted = '{"a.py::test_it": {"reason": "why"}}'
    files = {"linux.json": old, "damaged.json": "{", "empty.json": "", "accepted.json": accepted, "notes.md": "notes"}
    repository = Repository.create(tmp_path / "repository", {f"{FOLDER}/{name}": text for name, text in files.items()})
    base = Base(repository.head(), "as asked")
    repository.write({f"{FOLDER}/{name}": "" for name in files} | {f"{FOLDER}/new.json": old})
    root = repository.root
    if linked:
        root = tmp_path / "link"
        root.symlink_to(repository.root)

    assert baselines_at(root, base, root / FOLDER).keys() == {"linux.json"}
    assert accepted_at(root, base, root / FOLDER) == {"a.py::test_it": Accepted("why")}


@pytest.mark.parametrize("text", [None, "[]", "{"])
def test_a_base_without_a_usable_file_has_accepted_nothing(tmp_path: Path, text: str | None) -> None:
    files = {"app.py": ""} if text is None else {f"{FOLDER}/accepted.json": text}
    repository = Repository.create(tmp_path / "repository", files)

    assert accepted_at(repository.root, Base(repository.head(), "as asked"), repository.root / FOLDER) == {}
    assert baselines_at(repository.root, Base(repository.head(), "as asked"), repository.root / FOLDER) == {}


def test_benchmarks_that_only_the_base_has(tmp_path: Path) -> None:
    """They were deleted or renamed, alone or with their file. Other tests don't count."""
    before = "def test_a(measure): ...\nclass TestB:\n    async def test_b(self, *, measure): ...\ndef test_no(): ...\n"
    suite = {"test_a.py": before, "sub/test_c.py": "def test_c(measure): ...", "test_d.py": before, "broken.py": "def"}
    repository = Repository.create(
        tmp_path / "repository",
        {f"shop/tests/performance/{name}": text for name, text in suite.items()} | {"test_e.py": before},
    )
    root, base = repository.root / "shop", Base(repository.head(), "as asked")
    assert benchmarks_only_at(root, base) == []
    folder = root / "tests/performance"
    (folder / "test_a.py").write_text("def test_renamed(measure): ...\nclass TestB: ...\n")
    (folder / "sub/test_c.py").unlink()
    (folder / "broken.py").write_text("def again")
    (repository.root / "test_e.py").unlink()
    (folder / "test_d.py").write_text(f"import this\n{before}")

    assert benchmarks_only_at(root, base) == ["sub/test_c.py::test_c", "test_a.py::TestB::test_b", "test_a.py::test_a"]
