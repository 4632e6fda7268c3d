"""Helpers of the other scripts: a clone of this repository to change and measure, and their command line."""

import argparse
import contextlib
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

from plumbline.results.files import read_results, write_results
from plumbline.results.schema import Benchmark, Reason, Results

ROOT = Path(__file__).resolve().parents[1]
NOX = ("-m", "nox")
APP = "tests/sample_service/app.py"
# Exit codes of a gate that was not interrupted.
PASS, REGRESSION, INVALID = 0, 1, 3
# Variables that would change what the gate does.
FOREIGN = ("PERF_", "PYTEST_", "GITHUB_", "CI_", "PYTHONDONTWRITEBYTECODE")
# Measure a step of work for this long, because the machine speed changes all the time.
STEPS_MEASURED_S, STEPS_AT_ONCE = 3.0, 1000


@dataclass(frozen=True)
class Done:
    """The result of a command."""

    code: int
    output: str
    duration_s: float
    after_suite_s: float  # from the last line of pytest to the end of the command


class Clone:
    """A clone of this repository in a temporary folder. Commands use the installed Plumbline."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=Clone", "-c", "user.email=clone@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=self.root, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=Change")

    def restore(self) -> None:
        """Undo all uncommitted changes."""
        self.git("reset", "--quiet", "--hard")
        self.git("clean", "--quiet", "--force", "-d")

    def edit(self, name: str, *changes: tuple[str, str]) -> None:
        """Replace texts in a file. Each must occur exactly once."""
        text = (self.root / name).read_text(encoding="utf-8")
        for old, new in changes:
            if text.count(old) != 1:
                sys.exit(f"{name} has {old!r} {text.count(old)} times, not once: adapt this script")
            text = text.replace(old, new)
        (self.root / name).write_text(text, encoding="utf-8")

    def touch(self, name: str = APP) -> None:
        """Add an unused constant, which affects all benchmarks whose processes import this file."""
        path = self.root / name
        path.write_text(path.read_text(encoding="utf-8") + "_unused = 0\n", encoding="utf-8")

    def slow_down(self, handler: str, extra_s: float) -> None:
        """Add work to a handler of the sample service that takes `extra_s` on this machine."""
        start = f"async def {handler}(request: Request) -> Response:\n"
        # Add work and not a wait, because the time of a wait does not depend on the machine speed.
        self.edit(
            APP, (start, f"{start}    for step in range({round(extra_s / usual_step_s())}):\n        str(step)\n")
        )

    def run(self, *arguments: str, python: Path | str = sys.executable, codes: Sequence[int] = (PASS,)) -> Done:
        """Run Python and wait for its end. Exit if its exit code is not one of `codes`."""
        began_s, suite_over_s, lines = perf_counter(), 0.0, []
        with subprocess.Popen(
            [str(python), *arguments], cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    lines.append(line)
                    if re.search(r"\d+ passed.* in [\d.]+s", line):
                        suite_over_s = perf_counter()
            except BaseException:
                process.terminate()
                raise
        ended_s = perf_counter()
        output = "".join(lines)
        if process.returncode not in codes:
            sys.exit(f"{' '.join(arguments)} ended with {process.returncode}:\n{output}")
        return Done(process.returncode, output, ended_s - began_s, ended_s - suite_over_s)

    def record_baseline(self, *arguments: str, python: Path | str = sys.executable) -> Results:
        """Record a baseline, commit it, and return it."""
        self.run("-m", "plumbline", "baseline", "--", *arguments, python=python)
        self.commit()
        return read_results(self.baseline)

    @property
    def baseline(self) -> Path:
        [path] = (self.root / "tests" / "performance" / "baselines").glob("*.json")
        return path

    def pretend_another_host(self, recorded: Results, scale: float) -> None:
        """Commit the baseline as if another host of the same kind had recorded it, with scaled timings."""
        environment = msgspec.structs.replace(recorded.environment, machine="another")
        benchmarks = [_scaled(one, scale) for one in recorded.benchmarks]
        write_results(self.baseline, msgspec.structs.replace(recorded, environment=environment, benchmarks=benchmarks))
        self.commit()

    def gate(self, *arguments: str) -> Results:
        """Run `plumbline ci` and return its results. If it wrote none, return results without benchmarks."""
        done = self.run("-m", "plumbline", "ci", "--", *arguments, codes=(PASS, REGRESSION, INVALID))
        try:
            return read_results(self.root / "perf-results" / "results.json")
        except FileNotFoundError:
            reasons = [Reason("ended", line) for line in done.output.splitlines()[-10:]]
            baseline = read_results(self.baseline)
            return msgspec.structs.replace(baseline, benchmarks=[], exit_code=done.code, reasons=reasons)


def _scaled(benchmark: Benchmark, scale: float) -> Benchmark:
    changed: dict[str, Any] = {
        name: getattr(benchmark, name) * scale for name in ("median", "mean", "p95", "minimum", "maximum")
    }
    changed["process_medians"] = [median * scale for median in benchmark.process_medians]
    changed["rate_per_s"] = benchmark.rate_per_s / scale
    return msgspec.structs.replace(benchmark, **changed)


def usual_step_s() -> float:
    """Return the median time of one step of work, in seconds."""
    found, until_s = [], perf_counter() + STEPS_MEASURED_S
    while (start_s := perf_counter()) < until_s:
        for step in range(STEPS_AT_ONCE):
            str(step)
        found.append((perf_counter() - start_s) / STEPS_AT_ONCE)
    return statistics.median(found)


@contextlib.contextmanager
def cloned() -> Iterator[Clone]:
    """Yield a clone of the newest commit, and remove it at the end."""
    with tempfile.TemporaryDirectory(prefix="perf-clone-") as folder:
        root = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(root)], check=True)
        yield Clone(root)


def median_and_range(values: Iterable[float]) -> str:
    values = sorted(values)
    return f"{statistics.median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f}, n={len(values)})"


Section = Callable[[argparse.Namespace], None]


def at_least_two(text: str) -> int:
    """Check the value of --runs: one run has nothing to be compared with."""
    if int(text) < 2:
        raise argparse.ArgumentTypeError("at least 2")
    return int(text)


def run_sections(parser: argparse.ArgumentParser, sections: Mapping[str, Section]) -> None:
    """Parse the command line and run the chosen sections, with embedded servers and a clean environment.

    A script with several sections gets the argument SECTION. Ctrl-C and SIGTERM leave nothing behind.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    if len(sections) > 1:
        lines = "\n".join(f"  {name:12}{(measure.__doc__ or '').splitlines()[0]}" for name, measure in sections.items())
        parser.description = f"{parser.description}\n\nsections:\n{lines}"
        parser.add_argument("sections", nargs="+", metavar="SECTION", choices=sections, help=", ".join(sections))
    options = parser.parse_args()
    for variable in [name for name in os.environ if name.startswith(FOREIGN)]:
        del os.environ[variable]
    os.environ["PERF_SERVICES"] = "embedded"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for name in getattr(options, "sections", sections):
            print(f"==== {name}, {options.runs} runs", flush=True)
            began_s = perf_counter()
            sections[name](options)
            print(f"==== {name}: {perf_counter() - began_s:.0f} s", flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
