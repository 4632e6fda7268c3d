"""Figures and the shape of an executed plan: the result of EXPLAIN (ANALYZE, BUFFERS, VERBOSE, FORMAT JSON)."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

Plan = Mapping[str, Any]

MAX_LINES = 20
_SYSTEM_SCHEMAS = {"pg_catalog", "information_schema", "pg_toast"}


class Read(NamedTuple):
    """The rows and buffers that one execution of a statement read."""

    rows: float  # of the user's tables
    buffers: float  # of PostgreSQL's cache, whether they were in it or not
    plan: str = ""  # its shape


def read_by(plan: Plan) -> Read:
    return Read(rows_read(plan), buffers_read(plan), shape(plan))


def read_between(before: Iterable[Iterable[Any]], after: Iterable[Iterable[Any]]) -> Read:
    """Return what was read between two states of the tables: name, rows read, buffers read, rows written.

    The buffers of a table to which rows were written are left out: which pages have room differs from run to run.
    """
    old = {name: figures for name, *figures in before}
    rows, buffers = 0.0, 0.0
    for name, *figures in after:
        read, used, written = (new - then for new, then in zip(figures, old.get(name, [0.0] * 3), strict=True))
        rows, buffers = rows + read, buffers + (0.0 if written else used)
    return Read(rows, buffers)


def rows_read(plan: Plan) -> float:
    """Return how many rows an executed plan read from the user's tables.

    Rows removed by a filter count too, so that a missing index shows.
    """
    rows = 0.0
    if plan["Node Type"].endswith("Scan") and "Relation Name" in plan and plan.get("Schema") not in _SYSTEM_SCHEMAS:
        removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
        rows = (plan["Actual Rows"] + removed) * plan["Actual Loops"]
    return rows + sum(rows_read(part) for part in plan.get("Plans", ()))


def buffers_read(plan: Plan) -> float:
    """Return how many shared buffers the execution used, found in the cache or read into it.

    The top node includes the others, and functions that the statement calls. Planning is not included.
    """
    return float(plan.get("Shared Hit Blocks", 0) + plan.get("Shared Read Blocks", 0))


def shape(plan: Plan) -> str:
    """Return the plan as a tree of lines: `Index Scan item_pkey on item`, without costs, conditions and figures."""
    lines = list(_lines(plan, 0))
    more = [f"({len(lines) - MAX_LINES:,} more lines)"] if len(lines) > MAX_LINES else []
    return "\n".join([*lines[:MAX_LINES], *more])


def _lines(plan: Plan, depth: int) -> Iterator[str]:
    kind = plan["Node Type"] if plan["Node Type"] != "ModifyTable" else plan["Operation"]
    if (join := plan.get("Join Type", "Inner")) != "Inner":
        kind = f"{kind} ({join})"
    if (strategy := plan.get("Strategy", "Plain")) != "Plain":
        kind = f"{kind} ({strategy})"
    parallel = "Parallel " if plan.get("Parallel Aware") else ""
    index = f" {plan['Index Name']}" if "Index Name" in plan else ""
    of = next((plan[name] for name in ("Relation Name", "CTE Name", "Function Name") if name in plan), "")
    yield f"{'  ' * depth}{parallel}{kind}{index}{f' on {of}' if of else ''}"
    for part in plan.get("Plans", ()):
        yield from _lines(part, depth + 1)
