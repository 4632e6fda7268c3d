"""Compare application processes with random and with fixed addresses: `python -m scripts.addresses --help`."""

import argparse
import math
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import httpx

from scripts.clones import run_sections

BLOCKS, REQUESTS, WARM_UP = 80, 4, 30
DIFFERENT = 0.03
APPLICATION = """
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

app = Starlette(routes=[Route("/", lambda request: JSONResponse({"numbers": [*range(50)]}))])
"""
SERVE = f"import uvicorn\n{APPLICATION}\nuvicorn.run(app, port=0, access_log=False)"
# One process that measures: its addresses have to be random or fixed, too.
MEASURE = "from scripts.addresses import measure; measure({servers})"


def measure(servers: int) -> None:
    """Print the relative difference of each of several equal application processes, as a logarithm."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    processes = [
        subprocess.Popen([sys.executable, "-c", SERVE], stderr=subprocess.PIPE, text=True) for _ in range(servers)
    ]
    try:
        clients = [httpx.Client(base_url=_address(process), trust_env=False) for process in processes]
        for client in clients * WARM_UP:
            client.get("/")
        blocks: list[list[float]] = [[] for _ in clients]
        for _ in range(BLOCKS):
            for number in random.sample(range(servers), servers):
                blocks[number].append(min(map(_request_s, [clients[number]] * REQUESTS)))
        usual = [statistics.median(block) for block in zip(*blocks, strict=True)]
        for block in blocks:
            print(statistics.median(math.log(one / by) for one, by in zip(block, usual, strict=True)))
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return next(found[0] for line in process.stderr if (found := re.search(r"http://[\d.:]+", line)))


def _request_s(client: httpx.Client) -> float:
    began_s = time.perf_counter()
    client.get("/")
    return time.perf_counter() - began_s


def addresses(options: argparse.Namespace) -> None:
    """Print how much equal processes differ, with random and with fixed addresses, alternately."""
    command = [sys.executable, "-c", MEASURE.format(servers=options.servers)]
    found: dict[str, list[float]] = {"random": [], "fixed": []}
    for _ in range(options.runs):
        for kind, read in found.items():
            prefix = ["setarch", "-R"] if kind == "fixed" else []
            read += map(float, subprocess.check_output([*prefix, *command], text=True).split())
    for kind, read in found.items():
        print(f"{kind} addresses: {_summary(read)}", flush=True)


def _summary(read: Sequence[float]) -> str:
    apart = sum(abs(one) > DIFFERENT for one in read)
    spread, most = statistics.stdev(read), max(read, key=abs)
    return (
        f"{apart} of {len(read)} processes differ by more than {DIFFERENT:.0%}; spread {spread:.1%}, most {most:+.1%}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m scripts.addresses",
        description="Compare equal application processes, with random and with fixed memory addresses (Linux).",
        epilog="example: python -m scripts.addresses --runs 2",
    )
    parser.add_argument("--runs", type=int, default=5, help="runs of each kind (default: 5)")
    parser.add_argument("--servers", type=int, default=12, help="processes in each run, two or more (default: 12)")
    run_sections(parser, {"addresses": addresses})
