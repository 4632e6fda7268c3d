"""Recordings of a self-check with known spreads."""

import math
import random
from pathlib import Path

import msgspec

from plumbline.comparing.statistics.controls import CONTROLS
from plumbline.judging.evidence import Thresholds
from plumbline.selfcheck.record import SIZES, Recorded, Recording

KEYS = [f"test_it.py::test_{number}" for number in range(5)]
LIMITS = dict.fromkeys(KEYS, Thresholds(tolerance=0.02, minimum_effect=0.05, false_alarms=0.01, power=0.97))


def recording(spread: float, *, control: float = 0.0, seed: int = 1) -> Recording:
    """40 pairs without and 40 with each slow-down, all with this spread. The first control is off by `control`."""
    rng = random.Random(seed)

    def pair(slow_down: dict[str, float]) -> Recorded:
        blocks = {}
        for key in KEYS:
            process = math.log1p(slow_down.get(key, 0.0)) + rng.gauss(0, spread)
            blocks[key] = [process + rng.gauss(0, spread) for _ in range(64 if slow_down else 4)]
        for key, truth in CONTROLS.items():
            blocks[key] = [math.log1p(truth) + control + rng.gauss(0, 0.002)]
        return Recorded(blocks, {key: share for key, share in slow_down.items() if share})

    sizes = [{key: SIZES[(number + one) % 4] for one, key in enumerate(KEYS)} for number in range(160)]
    return Recording(sample_s=dict.fromkeys(KEYS, 1e-4), pairs=[*(pair({}) for _ in range(40)), *map(pair, sizes)])


def read_recording(path: Path) -> Recording:
    """Read the record of a self-check."""
    return msgspec.json.decode(path.read_bytes(), type=Recording)
