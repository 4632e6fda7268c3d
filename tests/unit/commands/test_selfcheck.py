"""`selfcheck --save` writes its results into the settings."""

from pathlib import Path

import pytest

from plumbline.commands.base import Project
from plumbline.commands.selfcheck import save_bias
from plumbline.comparing.comparison import plans_of
from plumbline.settings_file import load_settings
from tests.support.report_samples import benchmark

BEFORE = """\
backend = "off"                   # no servers

[benchmarks."a.py::test_b"]
bias = 0.05
tolerance = 0.03

[benchmarks."a.py::test_gone"]
bias = 0.01

[budgets]
"a.py::test_a" = { p95_ms = 2 }
"""


def test_the_measured_bias_is_written_and_counts_in_the_next_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also 0 for a benchmark that has a bias no longer. What was not measured, and the rest of the file, stays."""
    path = tmp_path / "tests/performance/settings.toml"
    path.parent.mkdir(parents=True)
    path.write_text(BEFORE)

    found = {"a.py::test_a[1 kB]": 0.01234, "a.py::test_b": 0.0, "a.py::test_c": 0.0}
    save_bias(Project(tmp_path, load_settings(path)), found)

    expected = BEFORE.replace("bias = 0.05", "bias = 0.0")
    assert path.read_text() == f'{expected}\n[benchmarks."a.py::test_a[1 kB]"]\nbias = 0.0123\n'
    plans = plans_of(load_settings(path), [benchmark(key) for key in [*found, "a.py::test_gone"]])
    assert [plan.thresholds.bias for plan in plans] == [0.0123, 0.0, 0.0, 0.01]
    assert '[benchmarks."a.py::test_a[1 kB]"] bias = 0.0123' in capsys.readouterr().out
