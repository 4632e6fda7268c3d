"""Messages, bytes and connections, by service."""

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from plumbline.counting.families import SOCKETS, CannotCount, Numbers
from plumbline.counting.sock_diag import Connection, Peer, SocketWatch


@dataclass
class Traffic:
    """Traffic with one service."""

    segments: int = 0  # sent, with data
    bytes_sent: int = 0
    bytes_received: int = 0
    connections: int = 0  # opened
    whole: bool = True  # whether messages seem to fit one segment each, so that segments are messages


def traffic(
    before: Mapping[bytes, Connection],
    after: Mapping[bytes, Connection],
    ended: Mapping[bytes, Connection],
    names: Mapping[Peer, str],
) -> dict[str, Traffic]:
    """Return the traffic with each of the named peers between two readings of the kernel's table.

    `ended`: connections that ended meanwhile, including those that began meanwhile too.
    """
    found: dict[str, Traffic] = {}
    for cookie, now in {**ended, **after}.items():
        then = before.get(cookie)
        segments = now.segments_sent - (then.segments_sent if then else 0)
        sent = now.bytes_sent - (then.bytes_sent if then else 0)
        received = now.bytes_received - (then.bytes_received if then else 0)
        if then and not (segments or received):
            continue
        total = found.setdefault(names[now.peer], Traffic())
        total.segments += segments
        total.bytes_sent += sent
        total.bytes_received += received
        total.connections += then is None
        # A message that is cut in two or more segments fills more than half of them.
        total.whole &= sent <= segments * now.segment_bytes / 2
    return found


class SocketSource:
    """Counts traffic by the kernel's table of sockets."""

    def __init__(self, watch: SocketWatch, names: Mapping[Peer, str]) -> None:
        self.families = [SOCKETS]
        self._watch = watch
        self._names = names
        self._before: dict[bytes, Connection] = {}
        self._rounds: list[Numbers] = []

    def begin(self) -> None:
        self._rounds = []
        self._watch.listen()

    def enter(self) -> None:
        self._before = self._asked(self._watch.open)
        self._asked(self._watch.destroyed)  # before the window

    def leave(self) -> None:
        after = self._asked(self._watch.open)
        numbers: Numbers = {}
        for name, found in traffic(self._before, after, self._asked(self._watch.destroyed), self._names).items():
            numbers[f"{name}.messages" if found.whole else f"{name}.segments"] = found.segments
            numbers[f"{name}.bytes_sent"] = found.bytes_sent
            numbers[f"{name}.bytes_received"] = found.bytes_received
            numbers[f"{name}.connections"] = found.connections
        self._rounds.append(numbers)

    def end(self) -> list[Numbers]:
        self._watch.ignore()
        return self._rounds

    def touched(self, service: str) -> bool:
        """Return whether anything went to a service in the last round; True if that is unknown."""
        return not self._rounds or any(name.startswith(f"{service}.") for name in self._rounds[-1])

    def _asked(self, ask: Callable[[Mapping[Peer, str]], dict[bytes, Connection]]) -> dict[bytes, Connection]:
        try:
            return ask(self._names)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise CannotCount("some messages weren't counted: more connections ended than are kept") from None
            raise CannotCount(f"some messages weren't counted: {error.strerror or error}") from None
