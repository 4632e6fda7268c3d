"""The template as users get it, copies of it, and repositories to copy it into."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.project import ROOT, Done, Project, with_lax_budgets
from tests.support.repository import Repository

LIMIT_S = 300.0
VENDOR = "tests/performance/vendor/"
LITTLE = "samples = 10\nwarmup = 2\ntimed_limit_s = 0.02"

# The user's code.
SHOP = """
def total(prices: list[int]) -> int:
    return sum(prices)


def cheapest(prices: list[int]) -> int:
    return min(prices)
"""

SHOP_BENCHMARKS = '''
"""Two benchmarks of the shop."""

import shop

PRICES = list(range(20_000))


def test_total(measure):
    """Add up prices."""
    for timer in measure():
        with timer:
            shop.total(PRICES)


def test_cheapest(measure):
    """Find the least price."""
    for timer in measure():
        with timer:
            shop.cheapest(PRICES)
'''


def git_files(destination: Path) -> None:
    """Copy the files of this repository that git lists, as they are in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if os.path.lexists(ROOT / name):
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, destination / name, follow_symlinks=False)


def make_template(folder: Path) -> Repository:
    """Make a repository with the files of this one, tagged as the first version."""
    git_files(folder)
    template = Repository(folder)
    template.git("init", "--quiet", "--initial-branch=main")
    template.commit()
    tag(template, "v0.1.0")
    return template


def tag(template: Repository, version: str) -> None:
    """Commit and tag a version. Copier looks at all files in .git, too."""
    template.git("tag", version)
    template.git("gc", "--quiet")


def copier(*arguments: str, cwd: Path) -> Done:
    """Run Copier without questions."""
    done = subprocess.run(
        [sys.executable, "-m", "copier", *arguments],
        cwd=cwd,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    return Done(done.returncode, done.stdout + done.stderr)


def copy(template: Repository, destination: Path, answers: Mapping[str, object] = {}) -> Done:
    """Copy the first version with these answers and the defaults for the others."""
    data = destination.parent / "answers.json"
    data.write_text(json.dumps(answers), encoding="utf-8")
    options = ["--defaults", f"--data-file={data}", "--vcs-ref=v0.1.0"]
    return copier("copy", *options, str(template.root), str(destination), cwd=destination.parent)


class Copy(Project):
    """A copy, driven by its own Nox sessions. `noxfile` is the name of its noxfile."""

    def __init__(self, root: Path, noxfile: str = "noxfile.py") -> None:
        super().__init__(root, root / ".nox")
        self.noxfile = noxfile

    def start(
        self, session: str, *arguments: str, options: Sequence[str] = (), **environ: str
    ) -> "subprocess.Popen[str]":
        """Start a session with options of Nox. Its environment is made if it is missing."""
        command = [sys.executable, "-m", "nox", *options, "-f", self.noxfile, "-s", session]
        return self._start([*command, "--", *arguments], {"PERF_SERVICES": "embedded", **environ})

    def begin(self, message: str = "Start") -> None:
        """Make the copy a repository with one commit."""
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit(message)

    def measure_little(self) -> None:
        """Set the fewest samples."""
        self.edit("settings.toml", "samples = 100\nwarmup = 20\ntimed_limit_s = 0.15", LITTLE)

    def allow_for_noise(self) -> None:
        """Set thresholds and budgets that hold on a busy machine, because other tests run at the same time."""
        self.edit("settings.toml", "tolerance = 0.02 ", "tails = []\ntolerance = 0.2 ")
        self.edit("settings.toml", "minimum_effect = 0.05 ", "minimum_effect = 0.9 ")
        self.edit("settings.toml", "confirm_processes = 5 ", "confirm_processes = 2 ")
        text = with_lax_budgets((self.suite / "settings.toml").read_text(encoding="utf-8"))
        # A busy machine takes too few samples to judge a 99th percentile.
        self.write("settings.toml", re.sub(r", p99_ms = \d+", "", text))

    def add_shop(self) -> None:
        """Commit two benchmarks of the user's own code."""
        (self.root / "shop.py").write_text(SHOP.lstrip(), encoding="utf-8")
        self.write("test_shop.py", SHOP_BENCHMARKS.lstrip())
        self.commit("A shop")

    def slow_down(self) -> None:
        """Make the code of one of the two benchmarks many times slower."""
        source = self.root / "shop.py"
        text = source.read_text(encoding="utf-8")
        assert "return sum(prices)" in text
        source.write_text(text.replace("return sum(prices)", "return sum(prices * 8) // 8"), encoding="utf-8")

    def files(self) -> set[str]:
        """Return the files of the copy, without those that its sessions made."""
        listed = (path.relative_to(self.root) for path in self.root.rglob("*") if path.is_file())
        made = {".git", ".nox", ".venv", "__pycache__", "perf-results", ".pytest_cache", ".ruff_cache", ".mypy_cache"}
        return {path.as_posix() for path in listed if made.isdisjoint(path.parts)}

    def own_files(self) -> set[str]:
        """Return the files that the user reviews and edits: all but the source of Plumbline."""
        return {name for name in self.files() if not name.startswith(VENDOR)}


def write_files(root: Path, files: Mapping[str, str]) -> None:
    """Write files by path. Their texts may be indented."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
