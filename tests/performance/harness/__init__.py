"""The harness of the performance suite: it belongs to the template, and `copier update` brings it up to date.

Yours to edit is what lies beside this folder: settings.toml, conftest.py, test_*.py and baselines/.
"""

from pathlib import Path

_BESIDE_ANOTHER = "perf-noxfile.py"
NOX = f"nox -f {_BESIDE_ANOTHER}" if (Path(__file__).parents[3] / _BESIDE_ANOTHER).exists() else "nox"
"""What our sessions are called by: in a repository with a noxfile of its own ours has another name."""
