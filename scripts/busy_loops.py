"""Run a command while busy loops start and stop at random: `python -m scripts.busy_loops --help`."""

import argparse
import multiprocessing
import random
import subprocess
import sys
import time

LONGEST_BURST_S = 2.0


def burst(seed: int) -> None:
    """Alternate between work and sleep of random durations, until killed."""
    chance = random.Random(seed)
    while True:
        until_s = time.monotonic() + chance.uniform(0, LONGEST_BURST_S)
        while time.monotonic() < until_s:
            pass
        time.sleep(chance.uniform(0, LONGEST_BURST_S))


def main() -> int:
    """Run the command and return its exit code, 130 if it was interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.busy_loops",
        description="Run a command while busy loops start and stop at random, on any core.",
        epilog="example: python -m scripts.busy_loops 3 plumbline selfcheck --minutes 50",
    )
    parser.add_argument("count", type=int, help="number of loops")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command with its arguments")
    options = parser.parse_args()
    if not options.command:
        parser.error("a command is needed")
    loops = [multiprocessing.Process(target=burst, args=(seed,), daemon=True) for seed in range(options.count)]
    for loop in loops:
        loop.start()
    try:
        return subprocess.run(options.command, check=False).returncode
    except KeyboardInterrupt:
        return 130
    finally:
        for loop in loops:
            loop.kill()


if __name__ == "__main__":
    sys.exit(main())
