"""Tests of memory, CPU time and open files: of the test process, the servers and the application, under load."""

import asyncio
import gc
import statistics
from collections.abc import Callable
from time import perf_counter

import httpx
import psutil
import pytest
from plumbline import Services, slope

pytestmark = pytest.mark.full

CYCLES = 20
WARM_UP_CYCLES = 10
REQUESTS_PER_CYCLE = 60
CLIENTS = 10
# Per request. Below 1 KiB is usual: Python collects an application's garbage only after some 10,000 requests.
GROWTH_LIMIT_BYTES = 2 * 1024

Record = Callable[[str, object], None]


@pytest.fixture
def processes(services: Services, api_url: str) -> dict[str, list[psutil.Process]]:  # skips if off
    """The processes on this machine by name: "tests", "redis", "postgres", "app" and your other processes."""
    found = {"tests": [psutil.Process()]}
    for service in services.running():
        if pids := service.pids():
            found[service.name] = [psutil.Process(pid) for pid in pids]
    return found


async def cycle(client: httpx.AsyncClient) -> None:
    """Send REQUESTS_PER_CYCLE requests, CLIENTS at a time: single reads, cached reads and lists."""
    for _ in range(REQUESTS_PER_CYCLE // CLIENTS // 3):
        for path in ("/items/1", "/items/1/cached", "/items"):
            responses = await asyncio.gather(*(client.get(path) for _ in range(CLIENTS)))
            assert all(response.is_success for response in responses)


def own_bytes(processes: list[psutil.Process]) -> int:
    """Return the resident memory, without shared memory such as PostgreSQL's buffers if the system reports it."""
    memory = [process.memory_info() for process in processes]
    return sum(info.rss - getattr(info, "shared", 0) for info in memory)


def cpu_s(processes: list[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


async def test_memory_growth(
    http_client: httpx.AsyncClient, processes: dict[str, list[psutil.Process]], record_property: Record
) -> None:
    """Under load no part of the system grows by more than 2 KiB of memory per request."""
    used_bytes: dict[str, list[int]] = {name: [] for name in processes}
    for number in range(WARM_UP_CYCLES + CYCLES):
        await cycle(http_client)
        gc.collect()
        if number >= WARM_UP_CYCLES:
            for name, own in processes.items():
                used_bytes[name].append(own_bytes(own))

    growth_bytes = {name: slope(values) / REQUESTS_PER_CYCLE for name, values in used_bytes.items()}
    for name, growth in growth_bytes.items():
        record_property(f"memory of {name}", f"{used_bytes[name][-1] / 2**20:.1f} MiB, {growth:+.0f} bytes per request")
    assert {name: growth for name, growth in growth_bytes.items() if growth > GROWTH_LIMIT_BYTES} == {}


async def test_cpu_under_load(
    http_client: httpx.AsyncClient, processes: dict[str, list[psutil.Process]], record_property: Record
) -> None:
    """The CPU time per request grows by less than 3 % from three cycles to the next three."""
    await cycle(http_client)
    spent_s: dict[str, list[float]] = {name: [] for name in processes}
    for _ in range(CYCLES // 2):
        before_s = {name: cpu_s(own) for name, own in processes.items()}
        for _ in range(3):  # one cycle is too short, because the system counts CPU time in steps of 10 ms
            await cycle(http_client)
        for name, own in processes.items():
            spent_s[name].append(cpu_s(own) - before_s[name])

    for name, values in spent_s.items():
        request_ms = statistics.fmean(values) / (3 * REQUESTS_PER_CYCLE) * 1e3
        record_property(f"CPU time of {name}", f"{request_ms:.3f} ms per request")
    total_s = [sum(values) for values in zip(*spent_s.values(), strict=True)]
    assert slope(total_s) < 0.03 * statistics.median(total_s)


async def test_cpu_after_load(
    http_client: httpx.AsyncClient, processes: dict[str, list[psutil.Process]], record_property: Record
) -> None:
    """After the load all processes together use less than a tenth of one core."""
    await cycle(http_client)
    everything = [process for own in processes.values() for process in own]
    began_s, before_s = perf_counter(), cpu_s(everything)
    await asyncio.sleep(1)
    share = (cpu_s(everything) - before_s) / (perf_counter() - began_s)

    record_property("CPU use after load", f"{share:.1%} of a core")
    assert share < 0.1


async def test_open_files(http_client: httpx.AsyncClient, processes: dict[str, list[psutil.Process]]) -> None:
    """Under load the number of open files and sockets does not grow in the tests or the application."""
    counts: dict[str, list[int]] = {name: [] for name in ("tests", "app") if name in processes}
    for _ in range(CYCLES):
        await cycle(http_client)
        for name, values in counts.items():
            values.append(sum(process.num_fds() for process in processes[name]))

    assert {name: values for name, values in counts.items() if slope(values) >= 0.5} == {}
