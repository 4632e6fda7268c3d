"""A short run of `selfcheck`."""

from pathlib import Path

from plumbline.cache import MADE
from plumbline.comparing.statistics.controls import CONTROLS
from tests.support.project import SETTINGS, Project
from tests.support.recordings import read_recording

# Budget of each gate. It must be shorter than the session's time that is left when the last gate begins.
SHORT_LIMIT_S = 10
FEW_REPLAYS = "from plumbline.selfcheck import findings; findings.REPLAYS = 40"
SHORT = f"""
import sys

{FEW_REPLAYS}
from plumbline.cli import main

sys.exit(main(["selfcheck", "--minutes=0.5"]))
"""
# A program that replays the file of the session.
AGAIN = f"""
from pathlib import Path

import msgspec

{FEW_REPLAYS}
from plumbline.judging.evidence import Thresholds
from plumbline.selfcheck.record import Recording
from plumbline.settings import GateSettings

stored = msgspec.json.decode(Path("perf-results/selfcheck.json").read_bytes(), type=Recording)
gate = GateSettings(pairs_limit_s={SHORT_LIMIT_S})
limits = dict.fromkeys(stored.sample_s, Thresholds.of(gate, None))
found = findings.findings_of(stored, limits, gate)
print(found == stored.findings)
print("\\n".join(findings.report_lines(found, len(stored.pairs), gate)))
"""


def test_the_session_measures_the_gate_and_keeps_its_pairs(environments: Path, tmp_path: Path) -> None:
    """The printed rates come from saved pairs, and replaying these prints the same rates."""
    project = Project.create(tmp_path / "project", environments)
    project.write("settings.toml", f"{SETTINGS}pairs_limit_s = {SHORT_LIMIT_S}\n")
    project.git("init", "--quiet")
    project.commit()
    done = project.python("-c", SHORT, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.code == 0, done.output
    stored = read_recording(project.root / "perf-results" / "selfcheck.json")
    assert stored.gates
    assert stored.slowed
    assert "no slow-down in the application: " in done.output
    assert "no slow-down in the server: there is no PostgreSQL" in done.output
    assert any(pair.slow_down for pair in stored.pairs)
    assert all(CONTROLS.keys() < pair.block_differences.keys() for pair in stored.pairs)
    assert set().union(*(pair.block_differences for pair in stored.pairs)) == {*CONTROLS, *stored.sample_s}
    assert "live gates without a slow-down" in done.output
    assert "smallest minimum_effect that this machine detects" in done.output
    again = project.python("-c", AGAIN)
    assert again.code == 0, again.output
    same, _, told = again.output.partition("\n")
    assert same == "True"
    assert told.strip() in done.output
    copies = [*(tmp_path / "cache" / "plumbline" / "sides" / "trees").iterdir()]
    assert sorted(path.name[:5] for path in copies) == ["base-", "head-"]
    assert all((path / MADE).exists() for path in copies)


def test_a_limit_too_short_for_a_pair_is_an_error(project: Project) -> None:
    """Otherwise the self-check would run forever and measure nothing."""
    project.write("settings.toml", f"{SETTINGS}pairs_limit_s = 1\n")
    project.git("init", "--quiet")
    done = project.python("-c", SHORT, XDG_CACHE_HOME=str(project.root.parent / "cache"))
    assert done.code == 3, done.output
    assert "pairs_limit_s of [gate] in settings.toml (1 s) is too short for a single pair: raise it" in done.output
