"""Apache Otava itself reads the export of the history, with the configuration of the documentation."""

import json
import random
import shlex
import subprocess
from pathlib import Path

import pytest

from plumbline.comparing.trees.installers import find_uv
from plumbline.reporting.otava import render
from plumbline.results.history import HISTORY_SCHEMA, Entry, Run
from tests.support.documentation import DOCS, blocks_of

VERSION = "0.8.0"
KEY, STEP = "test_items", 25


@pytest.mark.slow
def test_otava_finds_the_step(tmp_path: Path) -> None:
    """The median of 40 runs rises once, by 16 %. Otava names the commit."""
    noise = random.Random(1)
    runs = [
        Run(
            HISTORY_SCHEMA,
            f"{number:040x}",
            f"2026-11-{1 + number // 24:02}T{number % 24:02}:00:00+00:00",
            "any",
            "pass",
            {
                "test_cart.py": {
                    KEY: Entry(50_000 * (1.16 if number >= STEP else 1) * noise.gauss(1, 0.02), 2, 1, 1, 50)
                }
            },
        )
        for number in range(40)
    ]
    (tmp_path / "history.csv").write_text(render(runs))
    blocks = blocks_of(DOCS / "how-to" / "history.md")
    [config] = [one.text for one in blocks if one.file == "otava.yaml"]
    (tmp_path / "otava.yaml").write_text(config)
    [command] = [line for one in blocks for line in one.text.splitlines() if "otava analyze" in line]
    words = shlex.split(command.replace("apache-otava", f"apache-otava=={VERSION}"))
    assert words.pop(0) == "uvx"

    uvx = [*find_uv(), "tool", "run"]
    done = subprocess.run([*uvx, *words, "--output", "json"], cwd=tmp_path, capture_output=True, text=True, timeout=110)

    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)["main"]
    assert found["attributes"]["commit"] == runs[STEP].commit
    assert [change["metric"] for change in found["changes"]] == ["items"]
