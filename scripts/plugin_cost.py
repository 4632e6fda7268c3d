"""Print the cost of an installed Plumbline in a project without a suite: `python -m scripts.plugin_cost`.

The script runs `pytest --collect-only` in an empty project with and without the plugin. It prints the median of 20
differences in time and in CPU time, which other load disturbs less. Then it prints the import times of `plumbline` and
of the plugin in fresh processes, without the import of pytest.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

PAIRS = 20
COLLECT = [sys.executable, "-m", "pytest", "--collect-only", "-q"]
IMPORT = """\
import sys
import pytest  # as in every process that loads the plugin
from time import perf_counter
began_s = perf_counter()
import {module}
print(perf_counter() - began_s)
"""


def run(command: list[str], folder: Path) -> tuple[float, float]:
    """Return the time and CPU time of a pytest command in seconds. Raises RuntimeError if pytest fails."""
    began_s, used_s = perf_counter(), _cpu_s()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    taken = perf_counter() - began_s, _cpu_s() - used_s
    if done.returncode != 5:  # pytest: no tests collected
        raise RuntimeError(done.stdout + done.stderr)
    return taken


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def import_s(module: str) -> float:
    """Return the median time of importing a module in a fresh process, in seconds."""
    command = [sys.executable, "-c", IMPORT.format(module=module)]
    return statistics.median(float(subprocess.check_output(command)) for _ in range(PAIRS))


def main() -> None:
    """Measure and print the costs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        commands = [*COLLECT, "-p", "no:plumbline"], COLLECT
        for command in commands:
            run(command, folder)  # a first run compiles modules
        pairs = []
        for number in range(PAIRS):
            order = (0, 1) if number % 2 else (1, 0)
            taken = {which: run(commands[which], folder) for which in order}
            pairs.append((taken[0], taken[1]))
    for index, name in enumerate(("time", "CPU time")):
        without_ms = statistics.median(without[index] for without, _ in pairs) * 1000
        added_ms = statistics.median(after[index] - before[index] for before, after in pairs) * 1000
        print(f"pytest --collect-only, {name}: {without_ms:.0f} ms; added by the plugin: {added_ms:+.1f} ms")
    for module in ("plumbline", "plumbline.pytest_plugin"):
        print(f"import {module}: {import_s(module) * 1000:.2f} ms")


if __name__ == "__main__":
    main()
