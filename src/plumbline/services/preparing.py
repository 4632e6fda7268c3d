"""Runs the `prepare` command and checks that it connected to a server of this run."""

import time
from collections.abc import Mapping, Sequence

from plumbline.services.application import Process
from plumbline.services.base import Service, output_lines
from plumbline.services.clients import connections_made
from plumbline.services.errors import NotReady
from plumbline.services.variables import servers_named

ANSWER_LIMIT_S = 3.0
# Servers count a connection up to COUNTED_S after its end. POLL_S is the interval between checks.
COUNTED_S, POLL_S = 1.5, 0.05
SERVERS = {"postgres": "the PostgreSQL", "redis": "the Redis"}


def run_prepare(
    processes: Sequence[Process], servers: Sequence[Service], env: Mapping[str, str], limit_s: float
) -> None:
    """Run the commands to their ends. Raises NotReady if one fails, or none connected to a server that [env] names.

    If `env`, the table [env], names no server, a connection to any server of the run is enough.
    """
    named = {one.name: [key for key in env if one.name in servers_named({key: env[key]})] for one in servers}
    wanted = [one for one in servers if named[one.name]] or servers
    made = {one.name: connections_made(one.address, ANSWER_LIMIT_S) for one in wanted}
    touched = set[str]().union(*(process.run_to_end(limit_s) for process in processes))
    if wanted and touched.isdisjoint(made) and not any(_was_used(one, made[one.name]) for one in wanted):
        raise _untouched(processes[-1], wanted, [key for one in wanted for key in named[one.name]])


def _was_used(server: Service, before: int | None) -> bool:
    """Return whether the server has had more connections than `before`; True if that is unknown."""
    own = 1 if server.name == "redis" else 0  # on Redis, `connections_made` is a connection too
    until_s = time.monotonic() + COUNTED_S
    while before is not None and (now := connections_made(server.address, ANSWER_LIMIT_S)) is not None:
        if now > before + own:
            break
        if own or time.monotonic() > until_s:
            return False
        time.sleep(POLL_S)
    return True


def _untouched(process: Process, wanted: Sequence[Service], variables: Sequence[str]) -> NotReady:
    given = ", ".join(variables)
    server = SERVERS[wanted[0].name] if len(wanted) == 1 else "a server"
    lines = [
        f"{process.name} did not connect to {server} of this run, so that server is not prepared",
        *(f"  server      {one.name} at {one.address.host}:{one.address.port}" for one in wanted),
        f"  given by    {given or 'no variable'} of [env] in settings.toml",
        *output_lines(process.log_tail()),
        f"  next        {f'let it read {given}' if given else 'add the variable that it reads to [env]'};"
        " if it needs no database, run it before Plumbline, and remove `prepare` from settings.toml",
    ]
    return NotReady("\n".join(lines))
