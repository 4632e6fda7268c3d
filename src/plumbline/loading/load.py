"""Put load on one or two applications, and return their figures."""

import contextlib
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plumbline.loading.figures import Figures, figures_of
from plumbline.loading.locust_run import LocustRun
from plumbline.loading.plan import Window, number_of_processes, plan_windows, split_cores
from plumbline.loading.rows import Rows
from plumbline.loading.targets import Target
from plumbline.settings import Settings

LEAD_S = 0.5  # between the decision to begin and the begin


@dataclass(frozen=True)
class Workers:
    """Locust workers on other machines, or started by hand."""

    host: str
    port: int
    number: int

    @property
    def command(self) -> str:
        """The command that starts one. It gets the locustfile from here."""
        return f"locust -f - --worker --master-host={self.host} --master-port={self.port}"


@dataclass(frozen=True)
class Loaded:
    """The figures of a load test."""

    stages: Mapping[str, Sequence[Figures]]  # by side
    pairs: Mapping[int, Sequence[tuple[Figures, Figures]]]  # by stage: base and head in each pair of windows


def load(
    settings: Settings,
    root: Path,
    locustfile: Path,
    targets: Sequence[Target],
    workers: Workers | None,
    say: Callable[[str], None],
) -> Loaded:
    """Run Locust against each target. Raises LoadInvalid."""
    wanted, sides = settings.load, [target.side for target in targets]
    windows = plan_windows(wanted, sides, random.Random())
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    processes = number_of_processes(wanted, len(cores) or os.cpu_count() or 1)
    pinned = settings.pin != "off" and not workers
    for_locust, for_others = split_cores(cores if pinned else [], processes)
    with contextlib.ExitStack() as stack:
        runs = {}
        for target in targets:
            folder = target.services.directory / f"load-{target.side}"
            folder.mkdir()
            run = LocustRun(
                target.side,
                target.url,
                wanted,
                windows,
                locustfile=locustfile,
                root=root,
                folder=folder,
                environ=target.environment(),
                processes=processes,
                hosts=[*settings.allow_external, *(one.address.host for one in target.services.running())],
                workers_at=(workers.host, workers.port) if workers else None,
                workers=workers.number if workers else 0,
                scrub=target.services.scrub,
            )
            runs[target.side] = stack.enter_context(run)
            if for_others:
                target.pin(for_others)
        if for_others:
            say(f"  Locust on core {_listed(for_locust)}, everything else on {_listed(for_others)}")
        if workers:
            say(f"  waiting for {workers.number} Locust workers; start each with `{workers.command}`")
        for run in runs.values():
            run.wait_ready()
            if for_locust:
                run.pin(for_locust)
        say(f"  {windows[-1].end_s:.0f} s in {len(windows)} window{'s' * (len(windows) != 1)} …")
        begin_s = time.time() + LEAD_S
        for run in runs.values():
            run.begin(begin_s)
        rows = {side: run.rows() for side, run in runs.items()}
        for target in targets:
            target.check_alive()
    return _figures(windows, rows, wanted.late_ms)


def _listed(cores: Sequence[int]) -> str:
    return ", ".join(map(str, cores))


def _figures(windows: Sequence[Window], rows: Mapping[str, Rows], late_ms: float) -> Loaded:
    def at(side: str, stage: int, number: int | None = None) -> Figures:
        place = [one for one in windows if (one.side, one.stage) == (side, stage) and number in (None, one.number)]
        return figures_of(rows[side], place, late_ms)

    numbers = {stage: {one.number for one in windows if one.stage == stage} for stage in range(windows[-1].stage + 1)}
    of_stages = {side: [at(side, stage) for stage in numbers] for side in rows}
    pairs = {
        stage: [(at("base", stage, number), at("head", stage, number)) for number in sorted(several)]
        for stage, several in numbers.items()
        if "base" in rows
    }
    return Loaded(of_stages, pairs)
