"""The dependencies of Poetry projects as requirements."""

from typing import Any

import pytest
from packaging.requirements import Requirement

from plumbline.comparing.trees.poetry import poetry_requirements


@pytest.mark.parametrize(
    ("constraint", "requirement"),
    [
        ("*", "shop"),
        ("^1.2.3", "shop>=1.2.3,<2"),
        ("^0.2.3", "shop>=0.2.3,<0.3"),
        ("^0.0.3", "shop>=0.0.3,<0.0.4"),
        ("^0", "shop>=0,<1"),
        ("^6.0b1", "shop>=6.0b1,<7"),
        ("~1.2.3", "shop>=1.2.3,<1.3"),
        ("~1", "shop>=1,<2"),
        ("1.2.3", "shop==1.2.3"),
        ("1.2.*", "shop==1.2.*"),
        ("~=1.2", "shop~=1.2"),
        (">=1.2 <3", "shop>=1.2,<3"),
        (">= 1.2, !=1.4, < 3", "shop>=1.2,!=1.4,<3"),
        ({"version": "^1", "extras": ["redis"]}, "shop[redis]>=1,<2"),
        ({"version": "*", "optional": True}, None),
        ({"version": "1.0", "python": "<3.13"}, "shop==1.0 ; python_version < '3.13'"),
        ({"version": "*", "markers": "os_name == 'nt'"}, "shop ; os_name == 'nt'"),
        (
            {"git": "https://example.com/shop.git", "rev": "1a", "extras": ["x"]},
            "shop[x] @ git+https://example.com/shop.git@1a",
        ),
        ({"url": "https://example.com/shop.whl"}, "shop @ https://example.com/shop.whl"),
    ],
)
def test_constraints(constraint: Any, requirement: str | None) -> None:
    found = poetry_requirements({"python": "^3.12", "shop": constraint})

    assert [Requirement(one) for one in found] == ([Requirement(requirement)] if requirement else [])


@pytest.mark.parametrize("constraint", ["^1 || ^2", {"path": "../shop"}, 1])
def test_what_only_poetry_can_install(constraint: Any) -> None:
    with pytest.raises(ValueError, match=r"shop|alternatives"):
        poetry_requirements({"shop": constraint})


def test_optional_packages() -> None:
    table = {"shop": {"version": "1", "optional": True}, "other": [{"version": "1", "python": "3.12"}, "2"]}

    assert poetry_requirements(table, frozenset({"shop"})) == [
        "shop==1",
        "other==1 ; python_version == '3.12'",
        "other==2",
    ]
