"""Controls of a paired comparison: benchmarks whose difference is known beforehand."""

import math
import statistics
from collections.abc import Mapping, Sequence

from plumbline.comparing.statistics.inference import BETWEEN, ComparisonInvalid, Prior
from plumbline.comparing.statistics.plan import BenchmarkPlan
from plumbline.judging.distributions import student_quantile
from plumbline.judging.thresholds import Thresholds

# Stands in keys for the file of the controls, which lies in this package.
CONTROLS_FILE = "plumbline/controls.py"
# Keys of the controls, and by how much each is slowed down in head.
CONTROLS = {f"{CONTROLS_FILE}::test_alike": 0.0, f"{CONTROLS_FILE}::test_slowed": 0.1}
# Key of the self-check's own benchmark, which sleeps in PostgreSQL.
IN_SERVER = f"{CONTROLS_FILE}::test_in_server"
CONTROL_SAMPLE_S = 5e-5
# A control is wrong if a 99.9 % interval excludes the truth by more than a point.
CONTROL_ERROR = 0.001
CONTROL_TOLERANCE = 0.01


def controls(thresholds: Thresholds) -> list[BenchmarkPlan]:
    """Return the plans of the controls, which run first in each pair; thresholds do not judge them."""
    return [BenchmarkPlan(key, CONTROL_SAMPLE_S, thresholds, slow_down=share) for key, share in CONTROLS.items()]


def is_control(key: str) -> bool:
    """Return whether a key names one of this package's own benchmarks."""
    return key.partition("::")[0] == CONTROLS_FILE


def check_controls(differences: Mapping[str, Sequence[float]], prior: Prior) -> None:
    """Raise ComparisonInvalid if a control did not read what is true.

    `prior`: how the benchmarks vary; blocks of controls hardly do. A control with a single pair proves nothing.
    """
    for key, truth in CONTROLS.items():
        values = differences.get(key, [])
        if len(values) < 2:
            continue
        change = statistics.fmean(values)
        ratio, degrees = prior.moderated(values, [0.0] * len(values))
        margin = student_quantile(1 - CONTROL_ERROR / 2, degrees) * BETWEEN * math.sqrt(ratio / len(values))
        if abs(change - math.log1p(truth)) - margin > CONTROL_TOLERANCE:
            raise ComparisonInvalid(
                f"the control {key.rpartition('::')[2]} reads {math.expm1(change):+.1%} and should read"
                f" {truth:+.0%}: this machine can't be trusted now"
            )
