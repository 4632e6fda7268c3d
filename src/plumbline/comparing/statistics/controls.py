"""The controls: benchmarks of this package with a known slow-down, which run first in each pair."""

import math
import statistics
from collections.abc import Mapping, Sequence

from plumbline.comparing.statistics.inference import BETWEEN, PRIOR_DEGREES, ComparisonInvalid, ratio_of
from plumbline.comparing.statistics.plan import BenchmarkPlan
from plumbline.judging.distributions import student_quantile

# The file name in the keys of the controls, which are benchmarks of this package with a known slow-down.
CONTROLS_FILE = "plumbline/controls.py"
# Keys of the controls, and their slow-down in head, as shares.
CONTROLS = {f"{CONTROLS_FILE}::test_alike": 0.0, f"{CONTROLS_FILE}::test_slowed": 0.1}
# Key of a benchmark that sleeps in PostgreSQL, for the self-check.
IN_SERVER = f"{CONTROLS_FILE}::test_in_server"
CONTROL_SAMPLE_S = 5e-5
# A control is wrong if a 99.9 % interval excludes the truth by more than one percentage point.
CONTROL_ERROR, CONTROL_TOLERANCE = 0.001, 0.01


def with_controls(plans: Sequence[BenchmarkPlan]) -> list[BenchmarkPlan]:
    """Return the plans of the controls, which run first in each pair, and these plans. None without any plan.

    The controls have the thresholds of the first plan, which are not used.
    """
    controls = [
        BenchmarkPlan(key, CONTROL_SAMPLE_S, plans[0].thresholds, slow_down=share)
        for key, share in (CONTROLS.items() if plans else ())
    ]
    return [*controls, *plans]


def is_control(key: str) -> bool:
    """Return whether a key names a benchmark of this package."""
    return key.partition("::")[0] == CONTROLS_FILE


def check_controls(differences: Mapping[str, Sequence[float]], usual: float | None) -> None:
    """Raise ComparisonInvalid if a control did not read its known slow-down.

    `usual`: from `usual_ratio`. A control with a single pair is not checked.
    """
    for key, truth in CONTROLS.items():
        values = differences.get(key, [])
        if len(values) < 2:
            continue
        change, degrees = statistics.fmean(values), len(values) - 1
        squares = degrees * ratio_of(values, [0.0] * len(values))
        if usual is not None:
            squares, degrees = squares + PRIOR_DEGREES * usual, degrees + PRIOR_DEGREES
        error = BETWEEN * math.sqrt(squares / degrees / len(values))
        margin = student_quantile(1 - CONTROL_ERROR / 2, degrees) * error
        if abs(change - math.log1p(truth)) - margin > CONTROL_TOLERANCE:
            raise ComparisonInvalid(
                f"the control {key.rpartition('::')[2]} reads {math.expm1(change):+.1%} and should read {truth:+.0%}:"
                " the timings of this machine can't be trusted now; run it again when the machine is less busy"
            )
