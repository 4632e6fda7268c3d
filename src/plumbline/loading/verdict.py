"""Judge the figures of a load test: budgets, validity, and head against base. Pure."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from plumbline.judging.distributions import student_quantile
from plumbline.load_settings import LoadBudgets, LoadSettings
from plumbline.loading.figures import PERCENTILES, Figures

Verdict = Literal["pass", "regression", "inconclusive", "invalid"]
ORDER: tuple[Verdict, ...] = ("invalid", "regression", "inconclusive", "pass")  # the first one decides

MOST_WAITED = 0.1  # the share of arrivals that may wait for a free user
# A request waits for the generator's event loop about as often: when it is due, connected and answered.
TURNS = 3
ERROR_TOLERANCE = 0.001  # a rise of the error share by up to this much is never a regression
ERROR_EFFECT = 0.01  # a rise of this much must be ruled out to pass
# Below as many requests, one request alone would decide a percentile.
LEAST_REQUESTS = {name: round(1 / (1 - share)) for name, share in PERCENTILES.items()}
RATE = "highest rate"
MOST_LOG = 700.0  # the exponential of more is no float any more


class Finding(Struct, frozen=True):
    """A result about one stage, or about the whole run."""

    verdict: Verdict
    text: str
    stage: int | None = None


class Change(Struct, frozen=True):
    """The change of a figure from base to head, with its interval, None if there are too few windows."""

    figure: str
    change: float
    low: float | None
    high: float | None
    verdict: Verdict
    stage: int | None = None


def validity(figures: Figures, settings: LoadSettings) -> str:
    """Return why these figures say nothing about the application, "" if they do.

    The generator itself must be on time: its delays add up in queues, so all measured times may be its own. A task that
    waited for a free user is timed from when it was due, which is right as long as few tasks wait. If many do, the
    application gets less load than planned. Then the figures only count if the requests that were sent on time break
    the budget of the 99th percentile by themselves.
    """
    wanted = f"wanted {figures.rate_per_s:g} arrivals/s, reached {figures.reached_per_s:.4g}/s"
    if figures.generator_late_ms > settings.late_ms:
        cause = f"the load generator was {figures.generator_late_ms:.0f} ms late at the 99th percentile"
        return f"{cause} ({wanted}): lower the rate, or give Locust more cores or machines"
    if not figures.arrivals:
        return f"nothing arrived in the measured time ({wanted}): raise the rate or duration_s"
    if not figures.requests:
        return f"the tasks sent no requests ({wanted}): see the locustfile"
    if figures.waited_share > MOST_WAITED and not _surely_broken(figures, settings.budgets):
        cause = f"no user was free for {figures.waited_share:.0%} of the arrivals"
        return f"{cause} ({wanted}, {settings.number_of_users} users): raise `users` of [load], or lower the rate"
    return ""


def _surely_broken(figures: Figures, budgets: LoadBudgets) -> bool:
    """Return whether requests that were sent on time exceed the limit of p99 in more than 1 % of all requests."""
    if budgets.p99_ms is None:
        return False
    limit_ms = budgets.p99_ms + _own_ms(figures)
    above = sum(time_s * 1000 > limit_ms for time_s in figures.on_time_s)
    return above > 0.01 * figures.requests


def _own_ms(figures: Figures) -> float:
    """Return how much of a time may be the generator's own."""
    return TURNS * figures.generator_late_ms


def check_budgets(figures: Figures, budgets: LoadBudgets, own_ms: float = 0.0) -> list[tuple[Verdict, str]]:
    """Return the result of each budget for one stage. `own_ms`: how much of a time may be the generator's own."""
    found: list[tuple[Verdict, str]] = []
    for name, limit_ms in budgets.limits_ms.items():
        if figures.requests < LEAST_REQUESTS[name]:
            few = f"{name} can't be judged by {figures.requests} requests: raise the rate or duration_s"
            found.append(("inconclusive", few))
        else:
            value = figures.ms(name)
            text = f"{name} {value:.4g} ms, the budget is {limit_ms:g} ms"
            least = figures.least_ms(name) - own_ms
            if least <= limit_ms < value:
                own = f"up to {value - least:.3g} ms may be the load generator's own"
                found.append(("inconclusive", f"{text}, but {own}"))
            else:
                found.append(("regression" if value > limit_ms else "pass", text))
    text = f"{figures.error_share:.3%} of the requests failed, the budget is {budgets.error_share:.3%}"
    if figures.least_error_share <= budgets.error_share < figures.error_share:
        return [*found, ("inconclusive", f"{text}, but the load generator stalled during some of them")]
    return [*found, ("regression" if figures.error_share > budgets.error_share else "pass", text)]


def highest_rate(stages: Sequence[Figures], budgets: LoadBudgets) -> float:
    """Return the rate of the last stage up to which all stages keep the budgets; 0 if there is none."""
    held = 0.0
    for figures in stages:
        if not figures.requests or any(verdict != "pass" for verdict, _ in check_budgets(figures, budgets)):
            break
        held = figures.rate_per_s
    return held


def judge_head(stages: Sequence[Figures], settings: LoadSettings) -> list[Finding]:
    """Return the findings about one side by itself: validity and budgets."""
    budgets = settings.budgets
    least = budgets.least_rate_per_s or math.inf
    found = []
    for number, figures in enumerate(stages):
        if problem := validity(figures, settings):
            found.append(Finding("invalid", problem, number))
        elif number == 0 or figures.rate_per_s <= least or stages[number - 1].rate_per_s < least:
            found += [Finding(*result, number) for result in check_budgets(figures, budgets, _own_ms(figures))]
    return found


def compare(
    pairs: Mapping[int, Sequence[tuple[Figures, Figures]]], settings: LoadSettings, false_alarms: float
) -> list[Change]:
    """Compare the figures of base and head in pairs of windows.

    `pairs`: by stage, the figures of base and head in each pair. The changes of all pairs get a one-sided t test each
    against the tolerance (Student 1908, Biometrika 6:1). All tests share `false_alarms` (Bonferroni).
    """
    budgets = settings.budgets
    has_rate = len(pairs) > 1 and bool(budgets.limits_ms)
    tests = len(pairs) * (len(PERCENTILES) + 1) + has_rate
    alpha = false_alarms / tests
    limits = settings.tolerance, settings.minimum_effect
    found = []
    for stage, windows in pairs.items():
        for name in PERCENTILES:
            measured = [(base.least_ms(name), head.least_ms(name)) for base, head in windows]
            logs = [math.log(head / base) for base, head in measured if base > 0 and head > 0]
            found.append(_change(name, logs, [math.log1p(one) for one in limits], alpha, stage, _growth))
        errors = [head.least_error_share - base.least_error_share for base, head in windows]
        found.append(_change("error share", errors, [ERROR_TOLERANCE, ERROR_EFFECT], alpha, stage))
    if has_rate:
        by_window = [[*zip(*stages, strict=True)] for stages in zip(*pairs.values(), strict=False)]
        checks = [check_budgets(one, budgets) for sides in by_window for side in sides for one in side]
        is_unclear = any(verdict == "inconclusive" for results in checks for verdict, _ in results)
        held = [[highest_rate(side, budgets) for side in sides] for sides in by_window]
        drops = [(base - head) / max(base, head) if base or head else 0.0 for base, head in held]
        found.append(_change(RATE, [] if is_unclear else drops, limits, alpha, None))
    return found


def _growth(log: float) -> float:
    return math.expm1(min(log, MOST_LOG))


def _change(
    figure: str,
    changes: Sequence[float],
    limits: Sequence[float],
    alpha: float,
    stage: int | None,
    shown: Callable[[float], float] = float,
) -> Change:
    """Test the mean of paired changes, which are worse the larger they are. `shown` turns it into what is reported."""
    if len(changes) < 2:
        change = shown(changes[0]) if changes else 0.0
        return Change(figure, change, None, None, "inconclusive", stage)
    mean = statistics.fmean(changes)
    margin = student_quantile(1 - alpha, len(changes) - 1) * statistics.stdev(changes) / math.sqrt(len(changes))
    low, high = mean - margin, mean + margin
    tolerance, effect = limits
    verdict: Verdict = "regression" if low > tolerance else "pass" if high < effect else "inconclusive"
    return Change(figure, shown(mean), shown(low), shown(high), verdict, stage)


def overall(findings: Sequence[Finding], changes: Sequence[Change]) -> Verdict:
    given = {*(one.verdict for one in findings), *(one.verdict for one in changes)}
    return next(verdict for verdict in ORDER if verdict in {*given, "pass"})
