"""The commands of a Redis server, and what they do: keys that they read, changes, and bytes that they store."""

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from plumbline.counting.families import CHANGES, COMMANDS, CPU, KEYS, KEYS_READ, STORED, CannotCount, Numbers, family
from plumbline.measuring.connections import KEPT_CONNECTION_NAME
from plumbline.services.base import Service
from plumbline.services.clients import client_errors, redis_client

if TYPE_CHECKING:  # an optional package
    import redis

LIMIT_S = 1.0
# Sections of INFO, so that the time between is that of the round and the commands of the others are left out.
AT_ENTER = ["stats", "persistence", "commandstats", "cpu"]
AT_LEAVE = AT_ENTER[::-1]
# Figures that are no counts.
EXPIRED, SAVES = "redis.expired", "redis.saves"
INFO_FIGURES = {
    "keyspace_hits": (KEYS_READ, 1.0),
    "keyspace_misses": (KEYS_READ, 1.0),
    "rdb_changes_since_last_save": (CHANGES, 1.0),
    "expired_keys": (EXPIRED, 1.0),
    "rdb_saves": (SAVES, 1.0),
    "rdb_bgsave_in_progress": (SAVES, 0.5),  # its end is another value as well
    "used_cpu_user": (CPU, 1e6),
    "used_cpu_sys": (CPU, 1e6),
}
OWN_CPU_TRIES = 5
# Commands that wait for keys, until a time limit.
WAITING = {
    f"redis.command {name}"
    for name in (
        *("XREADGROUP", "XREAD", "BLPOP", "BRPOP", "BRPOPLPUSH", "BLMOVE"),
        *("BLMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP"),
    )
}
MOST_IDLE_S = 5.0
# Families that may be left out.
LEFT_OUT = {
    KEYS: "the keys that Redis reads and changes can't be counted:",
    STORED: "the bytes that Redis stores can't be counted:",
}
MOST_KEYS = 10_000
# With MEMORY USAGE of each key, and each of its elements. Nothing if the database has too many keys. Returns the bytes,
# the milliseconds until a key expires or -1, and the numbers of keys in databases that are not measured: the others, if
# all together have too many.
BYTES_OF_KEYS = """
    local most, own, info = tonumber(ARGV[1]), ARGV[2], redis.call('INFO', 'keyspace')
    if redis.call('DBSIZE') > most then return false end
    local bytes, lives_ms, others, total = 0, -1, '', 0
    for keys in string.gmatch(info, 'db%d+:keys=(%d+)') do total = total + keys end
    for number, keys in string.gmatch(info, 'db(%d+):keys=(%d+)') do
        local cursor, seen = '0', {}
        if number ~= own and total > most then
            others, cursor = others .. number .. '=' .. keys .. ' ', nil
        else
            redis.call('SELECT', number)
        end
        while cursor do
            local found = redis.call('SCAN', cursor, 'COUNT', 1000)
            cursor = found[1] ~= '0' and found[1]
            for _, key in ipairs(found[2]) do
                local left_ms = redis.call('PTTL', key)
                if left_ms >= 0 and (lives_ms < 0 or left_ms < lives_ms) then lives_ms = left_ms end
                if not seen[key] then bytes = bytes + (redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 0) or 0) end
                seen[key] = true
            end
        end
    end
    return {bytes, lives_ms, others}
"""


class Stored(NamedTuple):
    """The keys of a Redis server when they were measured."""

    state: tuple[float, ...] = ()  # of INFO, which any change of them changes
    size_bytes: float = 0.0
    until_s: float = math.inf  # when the first of them expires
    others: bytes = b""  # the numbers of keys in databases that were not measured


class RedisCommands:
    """Counts the commands of a Redis server by INFO, including rejected ones and those of scripts, and what they do.

    Keys read are those that a command has looked up, whether they exist or not. Changes are as Redis counts them: of
    keys, fields and elements. Bytes stored are by how much all keys have grown. The processor time is not exact.
    """

    def __init__(self, service: Service, note: Callable[[str], None]) -> None:
        self.families = [COMMANDS, KEYS, STORED]
        self._service = service
        self._note = note
        self._client: redis.Redis | None = None
        self._before: Numbers = {}
        self._stored = Stored()
        self._own_cpu_us = 0.0  # of `enter` and `leave` themselves
        self._rounds: list[Numbers] = []
        self._entered_s, self._longest_s = 0.0, 0.0

    def begin(self) -> None:
        self.families = [COMMANDS, KEYS, STORED]
        self._longest_s = 0.0
        address = self._service.address
        if self._client is None or self._client.get_connection_kwargs()["port"] != address.port:
            self._client = redis_client(address.url, LIMIT_S, client_name=KEPT_CONNECTION_NAME)
            self._client.set_response_callback("INFO", bytes)
            self._stored = Stored()
            empty = []
            for _ in range(OWN_CPU_TRIES):
                before = self._figures(AT_ENTER)
                empty.append(self._figures(AT_LEAVE)[CPU] - before[CPU])
            self._own_cpu_us = min(empty)
        self._rounds = []

    def enter(self) -> None:
        self._before = self._figures(AT_ENTER)
        if self._measure_stored(self._before):
            self._before = self._figures(AT_ENTER)
        self._entered_s = time.monotonic()

    def leave(self) -> None:
        self._longest_s = max(self._longest_s, time.monotonic() - self._entered_s)
        after, stored = self._figures(AT_LEAVE), self._stored
        self._measure_stored(after)
        numbers = {name: total - self._before.get(name, 0) for name, total in after.items()}
        numbers["redis.command INFO"] -= 3  # since the first was answered that counts commands
        numbers[CPU] -= self._own_cpu_us
        del numbers[EXPIRED]
        if numbers.pop(SAVES, 0) or numbers[CHANGES] < 0:
            self._leave_out(KEYS, "it saved its data meanwhile, and counts the changes since then")
        if self._stored.others != stored.others:
            self._leave_out(STORED, f"other databases change, and all have more than {MOST_KEYS:,} keys")
        if time.monotonic() >= stored.until_s:
            self._leave_out(STORED, "keys expired meanwhile")
        if STORED in self.families:
            numbers[STORED] = self._stored.size_bytes - stored.size_bytes
        self._rounds.append({name: number for name, number in numbers.items() if number > 0})

    def end(self) -> list[Numbers]:
        left_out = {KEYS, STORED} - {*self.families}
        return [{name: n for name, n in one.items() if family(name) not in left_out} for one in self._rounds]

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def idle_s(self) -> float:
        """Return how long to count without the test: not at all unless each round had a command that waits for keys.

        A worker repeats such a command, more often in longer rounds. In twice the time of a round it does so again.
        """
        repeated = all(any(name in WAITING for name in one) for one in self._rounds)
        return min(2 * self._longest_s, MOST_IDLE_S) if repeated and self._rounds else 0.0

    def _figures(self, sections: Sequence[str]) -> Numbers:
        """Return the totals of these sections of INFO."""
        numbers: Numbers = {}
        for answer in self._ask(sections):
            for line in answer.decode().splitlines():
                name, _, value = line.partition(":")
                if name.startswith("cmdstat_"):
                    calls = dict(one.split("=") for one in value.split(","))
                    command = name.removeprefix("cmdstat_").replace("|", " ").upper()
                    numbers[f"redis.command {command}"] = int(calls["calls"]) + int(calls.get("rejected_calls", 0))
                elif name in INFO_FIGURES:
                    total, factor = INFO_FIGURES[name]
                    numbers[total] = numbers.get(total, 0.0) + float(value) * factor
        return numbers

    def _ask(self, sections: Sequence[str]) -> list[bytes]:
        assert self._client is not None
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for section in sections:
                    pipeline.info(section)
                return pipeline.execute()
        except client_errors("redis") as error:
            raise CannotCount(f"some Redis commands weren't counted: {error}") from None

    def _measure_stored(self, figures: Numbers) -> bool:
        """Measure all keys if anything has changed since they were measured last. Return whether Redis was asked."""
        state = tuple(figures.get(name, 0.0) for name in (CHANGES, SAVES, EXPIRED))
        is_known = state == self._stored.state and time.monotonic() < self._stored.until_s
        if is_known or STORED not in self.families:
            return False
        assert self._client is not None
        self._stored = Stored()
        try:
            found = self._client.eval(BYTES_OF_KEYS, 0, MOST_KEYS, self._client.get_connection_kwargs()["db"])
        except client_errors("redis") as error:
            self._leave_out(STORED, str(error))
            return True
        if found is None:
            self._leave_out(STORED, f"there are more than {MOST_KEYS:,} keys")
        else:
            size_bytes, lives_ms, others = found
            until_s = time.monotonic() + lives_ms / 1e3 if lives_ms >= 0 else math.inf
            self._stored = Stored(state, float(size_bytes), until_s, others)
        return True

    def _leave_out(self, left_out: str, why: str) -> None:
        if left_out in self.families:
            self.families.remove(left_out)
            self._note(f"{LEFT_OUT[left_out]} {why}")
