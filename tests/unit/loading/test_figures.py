"""Figures from rows with known values, and from arrivals."""

import subprocess
import sys

import pytest

from plumbline.loading.figures import figures_of, percentile
from plumbline.loading.locust_run import MODULES
from plumbline.loading.plan import Window
from plumbline.loading.rows import TICK_S, ArrivalRow, RequestRow, Rows, TickRow, merged

WINDOW = Window("head", 0, 0, 0.0, 12.0, 100.0, 1, 2.0)


def stalled(users: int, stall_s: float = 0.5) -> Rows:
    """Return the rows of 100 arrivals/s for 10 s, at a server that takes 1 ms but stalls once, with so many users.

    While it stalls, each user waits for one answer. The tasks that are due meanwhile begin after it.
    """
    arrivals, requests, end_s = [], [], 7.0 + stall_s
    for number in range(1000):
        due_s = 2 + number / 100
        stalls = 7.0 <= due_s < end_s
        sent = not stalls or number < 500 + users
        late_s = 0.0 if sent else end_s - due_s
        took_s = end_s - due_s if stalls and sent else 0.001
        arrivals.append(ArrivalRow(due_s, late_s, not sent))
        requests.append(RequestRow(due_s, late_s, took_s, "/", ""))
    return Rows(arrivals=arrivals, requests=requests)


@pytest.mark.parametrize("users", [3, 1000])
def test_a_stalled_server_shows_whatever_the_number_of_users_is(users: int) -> None:
    """The coordinated omission: timed from sending, 3 of 1,000 requests would be slow."""
    figures = figures_of(stalled(users), [WINDOW], 20)
    assert figures.p99_ms == pytest.approx(400, abs=15)
    assert figures.p50_ms == pytest.approx(1)
    assert (figures.p99_from_sending_ms < 2) == (users == 3)
    assert figures.waited_share == pytest.approx(0.045 if users == 3 else 0)
    assert figures.generator_late_ms == 0


def test_only_the_measured_time_counts() -> None:
    rows = Rows(
        arrivals=[ArrivalRow(at_s, late_s, late_s is None) for at_s, late_s in ((1, 0), (3, 0), (4, None), (13, 0))],
        requests=[RequestRow(1.0, 0, 9, "/", ""), RequestRow(3.0, 0.002, 0.008, "/a", "HTTPError: 500")],
        ticks=[TickRow(1.0, 5.0), TickRow(3.0, 0.004)],
    )
    figures = figures_of(rows, [WINDOW], 20)
    assert (figures.arrivals, figures.sent, figures.requests) == (2, 1, 1)
    assert figures.p99_ms == pytest.approx(10)
    assert figures.error_share == 1
    assert figures.errors == ["1 x /a: HTTPError: 500"]
    assert figures.generator_late_ms == pytest.approx(4)
    assert figures.reached_per_s == pytest.approx(0.1)
    assert figures_of(Rows(), [WINDOW], 20).requests == 0


def test_a_stall_of_the_generator_delays_all_timers_of_its_time() -> None:
    """500 ms in 10 s are 5 % of the time, but only one of many timers was late."""
    ticks = [TickRow(2 + number * TICK_S, 0.0) for number in range(250)]
    ticks += [TickRow(7.0, 0.48), *(TickRow(7.5 + number * TICK_S, 0.0) for number in range(225))]
    found = merged([Rows(arrivals=[ArrivalRow(7.1, 0.4, False)], ticks=ticks)], 20)
    assert len(found.ticks) == 250 + 25 + 225
    assert figures_of(found, [WINDOW], 20).generator_late_ms == pytest.approx(400, abs=21)


def test_a_stall_is_found_in_the_requests_of_its_process_only() -> None:
    early, during = RequestRow(6.9, 0.0, 0.2, "/", ""), RequestRow(7.1, 0.4, 0.1, "/", "HTTPError: 500")
    later, around = RequestRow(7.6, 0.0, 0.1, "/", ""), RequestRow(6.5, 0.0, 2.0, "/", "")
    several = [early, during, later, around]
    ticks = [TickRow(7.0, 0.48), TickRow(7.5, 0.001)]
    # The stall and its requests come in two parts, as they are sent once a second.
    parts = [Rows(process="a", requests=several), Rows(process="b", requests=several), Rows(process="a", ticks=ticks)]
    found = merged(parts, 20)
    stalled = {(row.due_s, round(row.stalled_s, 6)) for row in found.requests if row.stalled_s}
    assert stalled == {(6.9, 0.1), (7.1, 0.4), (6.5, 0.5)}
    assert [row.due_s for row in found.requests] == sorted(row.due_s for row in several * 2)

    figures = figures_of(merged(parts[::2], 20), [WINDOW], 20)
    assert (figures.stalled, figures.max_ms) == (3, 2000)
    assert figures.p95_ms - figures.least_ms("p95") == pytest.approx(500)
    assert (figures.error_share, figures.least_error_share) == (0.25, 0)
    assert merged(parts, 500).requests == sorted([*several, *several], key=lambda row: row.due_s)


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(one) for one in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1)] == [50, 95, 99, 100]
    assert percentile([], 0.5) == 0


def test_arrivals_have_the_rate_and_the_processes_share_them() -> None:
    """In a process of its own, because gevent patches the standard library."""
    code = f"""
import sys
sys.path.insert(0, {str(MODULES[0].parent)!r})
from plumbline_open_loop import arrivals
windows = [(0, 100, 50, 1), (150, 200, 10, 2)]
whole = list(arrivals(windows, 0, 1))
parts = [list(arrivals(windows, part, 3)) for part in range(3)]
assert sorted(sum(parts, [])) == whole
assert max(map(len, parts)) - min(map(len, parts)) <= 2
assert not [due for due, *_ in whole if 100 <= due < 150]
print(len([due for due, *_ in whole if due < 100]), len([due for due, *_ in whole if due > 150]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = map(int, done.stdout.split())
    assert first == pytest.approx(5000, abs=350)  # five standard deviations
    assert second == pytest.approx(500, abs=112)
