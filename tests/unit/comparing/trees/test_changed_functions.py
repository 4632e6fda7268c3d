"""What a change of a file has changed, if that is functions alone."""

import pytest

from plumbline.comparing.trees.changed_functions import changed_functions

BASE = """\
import os
from json import dumps

LIMIT = 10

def f(a, b=LIMIT):
    return a

class C:
    kind = "c"

    @property
    def p(self):
        return 1

    @p.setter
    def p(self, value):
        pass

    async def m(self):
        def inner():
            return 1
        return inner

@cache
def kept():
    return LIMIT
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("return a", "return a  # nothing", set()),
        ("return a", "return b", {"f"}),
        ("            return 1", "            return 2", {"C.m"}),
        ("pass", "return", {"C.p"}),
        ("return a", "return g()\n\ndef g():\n    return 1", {"f", "g"}),
        ("import dumps", "import dumps, loads", set()),
        ("import os", "import os\nimport os.path as paths, sys", set()),
        ("import os", "import os\nfrom datetime import UTC", set()),
        ("async def m(self):", "async def m(self):\n        global LIMIT", {"C.m"}),
        ("LIMIT = 10", "LIMIT = 20", None),
        ("b=LIMIT", "b=1", None),
        ("async def m", "def m", None),
        ('kind = "c"', 'kind = "d"', None),
        ("class C:", "class C(dict):", None),
        ("return a", "return g()\n\n@register\ndef g():\n    return 1", None),
        ("return a", "return g()\n\ndef g(a=make()):\n    return 1", None),
        ("    async def m", "    def n(self): return 1\n\n    async def m", {"C.n"}),
        ("    async def m", "    n = 1\n\n    async def m", None),
        ("    async def m", "    @property\n    def n(self): return 1\n\n    async def m", None),
        ("    async def m", "    def f(self): return 1\n\n    async def m", None),
        ("class C:", "def dumps(): pass\n\nclass C:", None),
        ("    async def m", "    def __len__(self): return 1\n\n    async def m", None),
        ("import os", "import os\nimport redis", None),
        ("import os", "import os\nfrom .other import name", None),
        ("import os", "import os\nfrom json import *", None),
        ("import os", "import os\nimport sys as LIMIT", None),
        ("import os", "from __future__ import annotations\nimport os", None),
        ("import os", "import sys", None),
        ("return LIMIT", "return 1", None),
        ("return a", "return (", None),
        ("return a", "return '\0'", None),
    ],
)
def test_changed_functions_of_two_versions(old: str, new: str, expected: set[str] | None) -> None:
    assert BASE.count(old) >= 1
    assert changed_functions(BASE, BASE.replace(old, new, 1)) == expected


def test_a_removed_function_or_a_new_order_changes_more_than_a_function() -> None:
    """A removed function may be looked up by name, and the order of statements counts."""
    assert changed_functions("x = 1\ny = 2\n", "y = 2\nx = 1\n") is None
    assert changed_functions("def f(): pass\ndef g(): pass\n", "def f(): pass\n") is None


@pytest.mark.parametrize("decorator", ["functools.lru_cache(maxsize=1)", "memoize", "numba.njit", "torch.compile"])
def test_a_cached_or_compiled_function_changes_more_than_a_function(decorator: str) -> None:
    assert changed_functions(f"@{decorator}\ndef f(): return 1\n", f"@{decorator}\ndef f(): return 2\n") is None
    assert changed_functions("@traced\ndef f(): return 1\n", "@traced\ndef f(): return 2\n") == {"f"}
