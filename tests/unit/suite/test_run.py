import types
from pathlib import Path
from typing import Any, cast

from plumbline.results.files import read_results
from plumbline.suite.run import SuiteRun
from tests.support.report_samples import benchmark, results


def test_results_that_are_written_again_contain_no_password(tmp_path: Path) -> None:
    """The note about the thread that kept the process alive is added to the other notes."""
    file = tmp_path / "results.json"
    context = types.SimpleNamespace(scrub=lambda text: text.replace("hush-hush", "***"))
    found = results(benchmark("test_a.py::test_a"), notes=["redis://:hush-hush@127.0.0.1"])
    run = types.SimpleNamespace(_output=str(file), _results=found, _context=context)

    SuiteRun._held(cast(Any, run), "a thread")

    assert read_results(file).notes == ["redis://:***@127.0.0.1", "a thread"]
