"""Slow-downs by place and size, and the file of a self-check."""

import contextlib
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from plumbline.comparing.statistics.controls import CONTROLS, IN_SERVER
from plumbline.comparing.statistics.plan import BenchmarkPlan, Pair
from plumbline.results.schema import Benchmark, Environment, Results
from plumbline.selfcheck import record
from plumbline.selfcheck.placebos import PLACEBOS
from plumbline.selfcheck.record import (
    SIZES,
    SOME_CALLS,
    Recorder,
    Recording,
    Share,
    few_by_few,
    left_out,
    one_by_one,
    places,
    write_recording,
)
from plumbline.settings import Settings
from tests.support.recordings import KEYS, LIMITS, read_recording, recording

COPY = Path("/copy/bin/python")


def test_time_is_added_only_with_a_known_effect() -> None:
    """Of three benchmarks one sends one request per sample to the application, and one sends many."""
    one, many, none = KEYS[:3]
    counted = [(one, 1, {"app.messages": 2.0}), (many, 20, {"app.messages": 1.0}), (none, 1, {"redis.messages": 1.0})]
    benchmarks = [Benchmark(key, "s", None, 0.1, counts, operations=often) for key, often, counts in counted]
    plans = [BenchmarkPlan(key, 0.001, LIMITS[key]) for key in (one, many, none)]

    def found(**services: str) -> dict[str, list[str]]:
        environment = Environment("", "linux", "", "", 2, "", "", services, {}, None, "", False, {})
        slowed = places(Settings(), Results(1, None, environment, benchmarks), plans)
        assert len(slowed) + len(left_out(slowed)) == 3
        return {where: [plan.key for plan in chosen] for where, chosen in slowed.items()}

    block = {"block": [one, many, none]}
    assert found() == block
    assert found(app="external", postgres="external") == {**block, "server": [IN_SERVER]}
    assert found(app="process", postgres="docker") == {**block, "application": [one], "server": [IN_SERVER]}


def test_every_size_comes_in_every_place() -> None:
    """In gates one benchmark at a time is slowed down, in single pairs a few."""
    plans = [BenchmarkPlan(key, 1e-4, LIMITS[key]) for key in KEYS]
    server = [BenchmarkPlan(IN_SERVER, 0.1, LIMITS[KEYS[0]], slowed_in="server")]
    whole = list(itertools.islice(one_by_one({"block": plans, "server": server}, random.Random(1)), 8))
    assert [(plan.slow_down, plan.slowed_in, plan.slowed_calls) for plan in whole] == [
        *((size, place, 1.0) for size in (0.1, 0.05) for place in ("block", "server")),
        *((size, "block", calls) for calls, size in SOME_CALLS),
        (0.1, "block", 1.0),
    ]
    few = list(itertools.islice(few_by_few({"block": plans, "server": server}), 12))
    assert [len(chosen) for chosen in few[:4]] == [5, 5, 1, 5]
    for chosen, sizes in ((plans, SIZES), (server, SIZES[1:])):
        seen = {(plan.key, plan.slow_down) for group in few for plan in group}
        assert {(plan.key, size) for plan in chosen for size in sizes} <= seen


def test_a_recording_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "selfcheck.json"
    write_recording(path, recording(0.01))
    assert read_recording(path) == recording(0.01)


def test_a_recording_of_the_first_version_is_read(tmp_path: Path) -> None:
    """Names in the file such as `pace` and `where` stay."""
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
    """No false positive in 30 gates does not prove that there are none."""
    assert str(Share(0, 30)) == "0 of 30 (0.0%; 95 % interval 0.0% to 11.6%)"


class Pairs:
    """Stands in for a PairRunner. It notes the code of head during each pair, and reads no difference."""

    def __init__(self, file: Path) -> None:
        self.seen: list[str] = []
        self.pythons: list[Path | None] = []
        self._file = file

    def run_pair(self, chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
        del then
        self.seen.append(self._file.read_text())
        blocks = {plan.key: [0.001, -0.001] * plan.blocks for plan in chosen}
        return Pair({**blocks, **{key: [math.log1p(share)] * 2 for key, share in CONTROLS.items()}})

    @contextlib.contextmanager
    def head_runs_on(self, python: Path | None) -> Iterator[None]:
        self.pythons.append(python)
        yield


def test_gates_with_placebos_alternate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Head has one change at a time, and its own code again at the end. Code of others stays as it is."""
    code = "import os\n\n\nA = 1\n\n\ndef one():\n    return os.sep\n"
    (tmp_path / "shop.py").write_text(code)
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / "other.py").write_text(code)
    runner: Any = Pairs(tmp_path / "shop.py")
    plans = [BenchmarkPlan(KEYS[0], 1e-4, LIMITS[KEYS[0]])]
    found, lines = Recording({KEYS[0]: 1e-4}), list[str]()
    recorder = Recorder(runner, {"block": plans}, 60.0, 0.0, 0.0, tmp_path / "out.json", lines.append, found)
    left = iter([True] * 5)
    monkeypatch.setattr(recorder, "_is_time_left", lambda _: next(left, False))
    monkeypatch.setattr(record, "copied_environment", lambda: contextlib.nullcontext(COPY))

    recorder.record_placebos(tmp_path)

    assert [gate.placebo for gate in found.placebos] == ["edit", "imports", "order", "environment", "edit"]
    assert all(gate.verdicts == {KEYS[0]: "pass"} for gate in found.placebos)
    assert {pair.placebo for pair in found.pairs} == {*PLACEBOS}
    assert [code in runner.seen[first : first + 2] for first in range(0, 10, 2)] == [False, False, False, True, False]
    assert [python == COPY for python in runner.pythons] == [False, False, False, True, False]
    assert (tmp_path / "shop.py").read_text() == (tmp_path / "vendor" / "other.py").read_text() == code
    assert read_recording(tmp_path / "out.json") == found
    assert lines[0] == "  a function that nobody calls in 1 files: 1 pass"
