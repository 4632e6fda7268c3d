import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from plumbline.comparing.trees.sides import Sides
from plumbline.comparing.workers.pair_runner import pair_runner
from plumbline.comparing.workers.protocol import Line
from tests.unit.comparing.workers.ends import Ends
from tests.unit.comparing.workers.small_trees import WORK, copy_of, left_in, make_trees, plans_of, settings_of


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Both ends of a line."""
    one, other = socket.socketpair()
    with one, other:
        yield Ends(Line(one), Line(other))


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory, environments: Path) -> Sides:
    """Two equal trees with compiled modules. Do not change them."""
    sides = make_trees(tmp_path_factory.mktemp("compiled"), environments / "ci" / "bin" / "python")
    with pair_runner(settings_of(sides), sides, plans_of(WORK), "ci"):
        pass
    return sides


@pytest.fixture
def trees(compiled: Sides, tmp_path: Path) -> Sides:
    """Two equal trees to change."""
    return copy_of(compiled, tmp_path)


@pytest.fixture
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Check after each comparison that no process of either side is left."""
    yield
    assert not left_in(tmp_path)
