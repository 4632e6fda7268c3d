"""The source code of benchmarks and its hash."""

import functools
import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from plumbline.measuring.guards import guarded
from plumbline.suite.sources import source_of


def item(path: Path, body: str, fixtures: dict[str, list[Any]] | None = None) -> Any:
    """A test in its own file."""
    path.write_text(f'async def test_it():\n    """Do it."""\n    {body}\n')
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return SimpleNamespace(
        function=guarded(module.test_it, 1.0), _fixtureinfo=SimpleNamespace(name2fixturedefs=fixtures or {})
    )


def test_the_code_of_a_coroutine_test_under_guard_counts(tmp_path: Path) -> None:
    one, other = (source_of(item(tmp_path / f"test_{body}.py", body), tmp_path) for body in ("1", "2"))
    assert one.text == 'async def test_it():\n    """Do it."""\n    1\n'
    assert one.description == "Do it."
    assert one.hash != other.hash


def test_code_outside_of_the_suite_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "suite").mkdir()
    fixture = SimpleNamespace(func=functools.partial(item, tmp_path))
    test = item(tmp_path / "suite" / "test_it.py", "1")
    alone = source_of(test, tmp_path / "suite")
    test._fixtureinfo.name2fixturedefs["one"] = [fixture]
    assert source_of(test, tmp_path / "suite") == alone


def test_code_that_cannot_be_read_has_no_text(tmp_path: Path) -> None:
    test = item(tmp_path / "test_it.py", "1")
    (tmp_path / "test_it.py").unlink()
    assert source_of(test, tmp_path).text == ""
    test.function = functools.partial(len, ())
    assert source_of(test, tmp_path).text == ""
