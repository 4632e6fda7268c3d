"""Figures and shapes of executed plans."""

from plumbline.counting.plans import MAX_LINES, Read, buffers_read, read_between, rows_read, shape


def test_rows_read_include_those_removed_by_filters() -> None:
    """A scan of 1,000 rows that keeps one, and three loops over an index. System catalogues don't count."""
    plan = {
        "Node Type": "Nested Loop",
        "Actual Rows": 3,
        "Actual Loops": 1,
        "Plans": [
            {
                "Node Type": "Seq Scan",
                "Relation Name": "item",
                "Schema": "public",
                "Actual Rows": 1,
                "Rows Removed by Filter": 999,
                "Actual Loops": 1,
            },
            {
                "Node Type": "Bitmap Heap Scan",
                "Relation Name": "line",
                "Schema": "public",
                "Actual Rows": 2,
                "Rows Removed by Index Recheck": 1,
                "Actual Loops": 3,
                "Plans": [{"Node Type": "Bitmap Index Scan", "Actual Rows": 3, "Actual Loops": 3}],
            },
            {
                "Node Type": "Seq Scan",
                "Relation Name": "pg_type",
                "Schema": "pg_catalog",
                "Actual Rows": 600,
                "Actual Loops": 1,
            },
        ],
    }
    assert rows_read(plan) == 1000 + 9


def test_what_a_procedure_reads_is_the_difference() -> None:
    """Without the buffers of tables that it writes to."""
    before = [("item", 10.0, 5.0, 0.0), ("line", 3.0, 3.0, 1.0)]
    after = [("item", 30.0, 9.0, 0.0), ("line", 4.0, 8.0, 2.0), ("other", 7.0, 1.0, 0.0)]
    assert read_between(before, after) == Read(rows=20 + 1 + 7, buffers=4 + 1)


def test_buffers_include_those_that_were_not_in_the_cache() -> None:
    """The top node has those of the others, and planning is beside it."""
    part = {"Node Type": "Seq Scan", "Shared Hit Blocks": 5}
    plan = {
        "Node Type": "Sort",
        "Shared Hit Blocks": 7,
        "Shared Read Blocks": 2,
        "Local Hit Blocks": 3,
        "Plans": [part],
    }
    assert buffers_read(plan) == 9


def test_the_shape_of_a_plan_has_nodes_indexes_and_tables() -> None:
    """One node on each line, without figures."""
    scan = {"Node Type": "Index Scan", "Index Name": "item_pkey", "Relation Name": "item", "Alias": "i"}
    read = {"Node Type": "Seq Scan", "Relation Name": "line", "Parallel Aware": True, "Actual Rows": 7}
    join = {"Node Type": "Hash Join", "Join Type": "Left", "Plans": [read, {"Node Type": "Hash", "Plans": [scan]}]}
    total = {"Node Type": "Aggregate", "Strategy": "Hashed", "Plans": [join]}
    update = {"Node Type": "ModifyTable", "Operation": "Update", "Relation Name": "item", "Plans": [total]}
    assert shape(update).splitlines() == [
        "Update on item",
        "  Aggregate (Hashed)",
        "    Hash Join (Left)",
        "      Parallel Seq Scan on line",
        "      Hash",
        "        Index Scan item_pkey on item",
    ]


def test_a_long_plan_is_cut() -> None:
    """As of a table with many partitions."""
    parts = [{"Node Type": "Seq Scan", "Relation Name": f"part_{number}"} for number in range(100)]
    lines = shape({"Node Type": "Append", "Plans": parts}).splitlines()
    assert (len(lines), lines[-1]) == (MAX_LINES + 1, "(81 more lines)")
