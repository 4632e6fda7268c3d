"""The file that a self-check leaves."""

from pathlib import Path

import msgspec

from plumbline.selfcheck.recording import Share, write_recording
from tests.support.recordings import read_recording, recording


def test_a_recording_is_read_as_it_was_written(tmp_path: Path) -> None:
    """All its pairs."""
    path = tmp_path / "selfcheck.json"
    write_recording(path, recording(0.01))
    assert read_recording(path) == recording(0.01)


def test_a_recording_of_the_first_version_is_read(tmp_path: Path) -> None:
    """Names in the file stay, such as `pace` and `where`."""
    path = tmp_path / "selfcheck.json"
    share = {"count": 0, "of": 3, "low": 0.0, "high": 0.7}
    findings = {"gates": {"suites invalid": share}, "slowed": {}, "pairs": {}, "replayed": {}, "minimum_effect": 0.05}
    stored = {
        "sample_s": {"a": 0.1},
        "pairs": [{"block_differences": {"a": [0.1]}, "slow_down": {"a": 0.1}, "where": "server"}],
        "gates": [{"a": "pass"}],
        "slowed": [{"key": "a", "size": 0.1, "where": "block", "verdicts": {}, "change": None}],
        "pace": 1.5,
        "findings": findings,
    }
    path.write_bytes(msgspec.json.encode(stored))
    found = read_recording(path)
    assert (found.time_factor, found.pairs[0].where, found.slowed[0].size) == (1.5, "server", 0.1)
    assert found.findings is not None
    assert found.findings.gates["suites invalid"].count == 0


def test_a_share_shows_its_interval_in_the_long_run() -> None:
    """No false alarm in 30 gates is no proof of none."""
    assert str(Share(0, 30)) == "0 of 30 (0.0%; in the long run 0.0% to 11.6%)"
