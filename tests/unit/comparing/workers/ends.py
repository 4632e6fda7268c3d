"""Both ends of a line, for tests of either."""

from typing import NamedTuple

from plumbline.comparing.workers.protocol import Line

LIMIT_S = 10.0


class Ends(NamedTuple):
    """The coordinator's end of a line and the worker's."""

    coordinator: Line
    worker: Line
