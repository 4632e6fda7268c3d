import socket
from collections.abc import Iterator

import pytest

from plumbline.comparing.workers.protocol import FromCoordinator, FromWorker, Line
from tests.unit.comparing.workers.ends import Ends


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Both ends of a line."""
    one, other = socket.socketpair()
    with one, other:
        yield Ends(Line(one, FromWorker), Line(other, FromCoordinator))
