"""The settings of load tests as typed values, with their defaults and their texts."""

import itertools
from typing import Annotated

from msgspec import Meta, Struct

Positive = Annotated[float, Meta(gt=0, le=1e9)]  # a longer time overflows the system's clocks
Rate = Annotated[float, Meta(gt=0, le=1e5)]
Share = Annotated[float, Meta(gt=0, lt=1)]

LEAST_USERS, MOST_USERS = 10, 1000  # if the settings give no number


def check_effect(minimum_effect: float, tolerance: float) -> None:
    """Raise ValueError if nothing can tell these limits of a verdict apart."""
    if tolerance >= minimum_effect:
        raise ValueError(f"minimum_effect = {minimum_effect:g} must be larger than tolerance = {tolerance:g}")


class LoadStage(Struct, frozen=True, forbid_unknown_fields=True):
    """A stage of a ramp. Each stage is a table `[[load.stages]]`."""

    #: Arrivals per second.
    rate_per_s: Rate
    #: Seconds that this rate lasts, for each side.
    duration_s: Positive


class LoadBudgets(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limits on the figures of a load test. A limit that is not given is not checked.

    The limits must hold in all stages. If `least_rate_per_s` is given, they must hold in all stages up to that rate.
    """

    #: The highest median, in milliseconds.
    p50_ms: Positive | None = None
    #: The highest 95th percentile, in milliseconds.
    p95_ms: Positive | None = None
    #: The highest 99th percentile, in milliseconds.
    p99_ms: Positive | None = None
    #: The highest share of failed requests: 0.01 is 1 %.
    error_share: Annotated[float, Meta(ge=0, le=1)] = 0.01
    #: The rate up to which the other limits must hold, in arrivals per second.
    least_rate_per_s: Rate | None = None

    @property
    def limits_ms(self) -> dict[str, float]:
        """The limits of percentiles, by the name of the percentile."""
        given = {"p50": self.p50_ms, "p95": self.p95_ms, "p99": self.p99_ms}
        return {name: limit for name, limit in given.items() if limit is not None}


class LoadSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The load that `nox -s load` puts on the application."""

    #: Arrivals per second. Each arrival runs one task of the locustfile.
    rate_per_s: Rate = 10.0
    #: Seconds that the load lasts, for each side.
    duration_s: Positive = 60.0
    #: The stages of a ramp. They replace `rate_per_s` and `duration_s`. The rate must rise from stage to stage.
    stages: list[LoadStage] = []
    #: The number of Locust users. At most this many tasks run at the same time. 0 means one user for each arrival per
    #: second, but at least 10 and at most 1,000.
    users: Annotated[int, Meta(ge=0, le=100_000)] = 0
    #: The number of Locust processes for each side. 0 means one process for each 200 arrivals per second, if enough
    #: cores are free.
    processes: Annotated[int, Meta(ge=0, le=256)] = 0
    #: Base and head get the load in turns. This is the length of a turn in seconds.
    window_s: Annotated[float, Meta(ge=0.1, le=1e9)] = 10.0
    #: Seconds at the beginning of each turn that are not measured.
    leave_out_s: Annotated[float, Meta(ge=0, le=1e9)] = 2.0
    #: Seconds after the last arrival in which answers still count. A request without an answer has failed.
    answer_limit_s: Positive = 10.0
    #: The limit of the load generator's own delays, in milliseconds. The run is invalid if the delay is above this
    #: limit for more than 1 % of the time. The run is also invalid if more than 10 % of the arrivals wait longer than
    #: this limit for a free user.
    late_ms: Positive = 20.0
    #: A slow-down of at most this share is never a regression: 0.1 is 10 %.
    tolerance: Share = 0.1
    #: The run passes if a slow-down of this share or more can be ruled out. A run that neither passes nor fails is
    #: inconclusive.
    minimum_effect: Share = 0.25
    #: Limits of the figures: see `[load.budgets]`.
    budgets: LoadBudgets = LoadBudgets()

    def __post_init__(self) -> None:
        rates = [stage.rate_per_s for stage in self.all_stages]
        if any(after <= before for before, after in itertools.pairwise(rates)):
            raise ValueError("the rates of `stages` must rise from stage to stage")
        shortest = min(self.window_s, *(stage.duration_s for stage in self.all_stages))
        if self.leave_out_s >= shortest:
            raise ValueError(f"leave_out_s = {self.leave_out_s:g} leaves nothing of a window of {shortest:g} s")
        check_effect(self.minimum_effect, self.tolerance)
        least = self.budgets.least_rate_per_s
        if least is not None and least > rates[-1]:
            raise ValueError(f"budgets.least_rate_per_s = {least:g}, but the highest rate is {rates[-1]:g}")

    @property
    def all_stages(self) -> list[LoadStage]:
        return self.stages or [LoadStage(self.rate_per_s, self.duration_s)]

    @property
    def number_of_users(self) -> int:
        highest = self.all_stages[-1].rate_per_s
        return self.users or int(min(max(highest, LEAST_USERS), MOST_USERS))
