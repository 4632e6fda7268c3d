"""Each script says how it is run, and changes of the sample service that the scripts make can be made."""

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.clones import APP, ROOT, Clone

NAMES = (
    "accuracy",
    "baseline_check",
    "bisections",
    "busy_loops",
    "libraries",
    "reference",
    "results_schema",
    "rivals",
    "spread",
    "times",
)


@pytest.mark.parametrize("name", NAMES)
def test_help_has_an_example_that_the_script_can_parse(name: str) -> None:
    """`python -m scripts.NAME --help` prints its command line and an example of it."""
    done = subprocess.run(
        [sys.executable, "-m", f"scripts.{name}", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert f"usage: python -m scripts.{name}" in done.stdout
    assert f"example: python -m scripts.{name}" in done.stdout


def test_a_handler_is_slowed_down_within_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample service stays valid Python, and no other function of it differs."""
    monkeypatch.setattr("scripts.clones.usual_step_s", lambda: 1e-7)
    app = tmp_path / APP
    app.parent.mkdir(parents=True)
    source = (ROOT / APP).read_text(encoding="utf-8")
    app.write_text(source, encoding="utf-8")

    Clone(tmp_path).slow_down("list_items", 1e-4)

    changed = app.read_text(encoding="utf-8")
    compile(changed, APP, "exec")
    added = "    for step in range(1000):\n        str(step)\n"
    assert changed.replace(f"async def list_items(request: Request) -> Response:\n{added}", "") == source.replace(
        "async def list_items(request: Request) -> Response:\n", ""
    )


def test_an_edit_that_does_not_fit_ends_the_script(tmp_path: Path) -> None:
    """A text that the file has not, or has twice, would measure another change than the script says."""
    (tmp_path / "file.py").write_text("a = 1\na = 1\n", encoding="utf-8")

    for old in ("b = 1", "a = 1"):
        with pytest.raises(SystemExit, match="times, not once"):
            Clone(tmp_path).edit("file.py", (old, "c = 1"))
