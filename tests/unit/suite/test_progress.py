"""The lines of a run before it begins."""

from types import SimpleNamespace
from typing import Any

import pytest

from plumbline.suite.progress import what_runs


@pytest.mark.parametrize(
    ("benchmarks", "others", "said"),
    [
        (12, 0, "Measuring 12 benchmarks"),
        (1, 1, "Measuring 1 benchmark and running 1 other test"),
        (0, 3, "Running 3 tests"),
    ],
)
def test_the_benchmarks_are_those_that_measure(benchmarks: int, others: int, said: str) -> None:
    items: list[Any] = [SimpleNamespace(fixturenames=["redis_client", "measure"])] * benchmarks
    items += [SimpleNamespace(fixturenames=["redis_client"])] * others

    assert what_runs(items) == said
