"""Parsing PostgreSQL's log and normalising statements."""

import pytest

from plumbline.counting.families import CannotCount
from plumbline.counting.statements import (
    Executed,
    again,
    between,
    executed,
    functions_in,
    normalised,
    of_database,
    reads_tables,
)

LOG = """\
2026-01-02 03:04:05.678 UTC [11] LOG:  received SIGHUP, reloading configuration files
2026-01-02 03:04:05.678 UTC [12] LOG:  duration: 0.020 ms  statement: SELECT 'mark 0'
2026-01-02 03:04:05.679 UTC [13] LOG:  duration: 0.101 ms  parse stmt_1: SELECT id
\tFROM item
\tWHERE id = $1
2026-01-02 03:04:05.679 UTC [13] LOG:  duration: 0.201 ms  bind stmt_1: SELECT id
\tFROM item
\tWHERE id = $1
2026-01-02 03:04:05.679 UTC [13] DETAIL:  Parameters: $1 = '6'
2026-01-02 03:04:05.679 UTC [13] LOG:  duration: 0.301 ms  execute stmt_1: SELECT id
\tFROM item
\tWHERE id = $1
2026-01-02 03:04:05.679 UTC [13] DETAIL:  Parameters: $1 = '7', $2 = NULL, $3 = 'it''s
\ttwo lines'
2026-01-02 03:04:05.680 UTC [13] LOG:  duration: 0.301 ms  statement: EXECUTE p(7)
2026-01-02 03:04:05.680 UTC [13] DETAIL:  prepare: PREPARE p AS SELECT id FROM item WHERE id = $1
2026-01-02 03:04:05.680 UTC [13] ERROR:  could not serialize access due to concurrent update
2026-01-02 03:04:05.680 UTC [13] STATEMENT:  UPDATE item SET n = 1
not a line of PostgreSQL's
2026-01-02 03:04:05.681 UTC [12] LOG:  duration: 0.020 ms  statement: SELECT 'mark 1'
2026-01-02 03:04:05.682 UTC [13] LOG:  duration: 0.020 ms  statement: COMMIT
"""

SELECT = "SELECT id\nFROM item\nWHERE id = $1"


def test_the_log_shows_parsed_and_executed_statements() -> None:
    """With several lines, parameters as literals, and failed statements, but without binds."""
    assert list(executed(LOG)) == [
        Executed("statement", "SELECT 'mark 0'"),
        Executed("parse", SELECT),
        Executed("statement", SELECT, ("'7'", "NULL", "'it''s\ntwo lines'")),
        Executed("statement", "EXECUTE p(7)", prepared="PREPARE p AS SELECT id FROM item WHERE id = $1"),
        Executed("statement", "UPDATE item SET n = 1"),
        Executed("statement", "SELECT 'mark 1'"),
        Executed("statement", "COMMIT"),
    ]


@pytest.mark.parametrize("prefix", ["03:04:05 UTC:[local]:perf@perf:[12]:", "a:  b ", "[12]|", ""])
def test_the_prefix_of_the_log_may_be_the_users(prefix: str) -> None:
    """By `log_line_prefix` in [postgres.config]."""
    log = f"{prefix}LOG:  duration: 0.1 ms  statement: SELECT 1\n"
    assert list(executed(log)) == [Executed("statement", "SELECT 1")]


def test_the_log_is_split_at_the_marks() -> None:
    """Statements before the first mark do not count. If a mark is missing, the result is empty."""
    parts = between(LOG, ["SELECT 'mark 0'", "SELECT 'mark 1'"])
    assert [[one.kind for one in part] for part in parts] == [
        ["parse", "statement", "statement", "statement"],
        ["statement"],
    ]
    assert between(LOG, ["SELECT 'mark 0'", "SELECT 'mark 2'"]) == []


def test_entries_of_other_databases_are_left_out() -> None:
    """Continuation lines belong to the entry before them. Without a database in its prefix, an entry is kept."""
    log = (
        "2026-01-01 UTC [7] <perf_base_1> LOG:  duration: 0.1 ms  statement: SELECT 1\n\tFROM a\n"
        "2026-01-01 UTC [8] <perf_head_1> LOG:  duration: 0.1 ms  statement: SELECT 2\n\tFROM b\n"
        "2026-01-01 UTC [9] LOG:  checkpoint starting\n"
    )
    assert "".join(of_database(log, "perf_head_1")) == log.partition("\tFROM a\n")[2]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("SELECT name FROM item WHERE id = 42", "SELECT name FROM item WHERE id = ?"),
        ("SELECT name FROM item WHERE id = $1", "SELECT name FROM item WHERE id = $1"),
        ("SELECT id, name\n  FROM item\tWHERE id = $1;", "SELECT … FROM item WHERE id = $1"),
        ("SELECT 'it''s', E'a\\'b', 1.5e3, $$x 1$$, $t$y$t$", "SELECT ?, ?, ?, ?, ?"),
        ("SELECT 1 /* traceparent='00-1f' */ -- by 7", "SELECT ?"),
        ("DELETE FROM a WHERE id IN (1, 2,3) AND b = 'x'", "DELETE FROM a WHERE id IN (…) AND b = ?"),
        ("DELETE FROM a WHERE id IN (1)", "DELETE FROM a WHERE id IN (…)"),
        ("DELETE FROM a WHERE id IN ($1::int, $2::int) AND b = $3", "DELETE FROM a WHERE id IN (…) AND b = $1"),
        ("INSERT INTO a (b, c) VALUES (1, 'x'), (2, 'y')", "INSERT INTO a (b, c) VALUES (?, ?), …"),
        ("INSERT INTO a (b, c) VALUES ($1, $2)", "INSERT INTO a (b, c) VALUES ($1, $2)"),
        ('SELECT "Col 1", col2 FROM t2', "SELECT … FROM t2"),
        ('SELECT "Col 1" FROM t2', 'SELECT "Col 1" FROM t2'),
        ("SAVEPOINT sa_savepoint_12", "SAVEPOINT ?"),
        ("ROLLBACK TO SAVEPOINT x1", "ROLLBACK TO SAVEPOINT ?"),
        ('FETCH FORWARD 50 FROM "c_17"', "FETCH FORWARD ? FROM ?"),
        ("DEALLOCATE ALL", "DEALLOCATE ALL"),
        ("BEGIN;", "BEGIN"),
        ("", "(empty statement)"),
        (" ; ", "(empty statement)"),
        ("-- ping", "(empty statement)"),
    ],
)
def test_statements_of_a_kind_are_normalised_alike(text: str, label: str) -> None:
    """Literals, comments, lengths of lists and generated names are removed."""
    assert normalised(text) == label


def test_a_long_statement_is_cut() -> None:
    """A label stays readable."""
    label = normalised("SELECT 1 FROM a" + " JOIN b USING (id)" * 100)
    assert len(label) == 300
    assert label.endswith("…")


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("SELECT a FROM b", True),
        ("WITH x AS (SELECT 1 FROM b) SELECT * FROM x", True),
        ("UPDATE b SET a = 1", True),
        ("INSERT INTO a SELECT b FROM c", True),
        ("INSERT INTO a VALUES (1)", False),
        ("SELECT pg_advisory_unlock_all()", False),
        ("COPY a FROM STDIN", False),
        ("COPY a TO STDOUT", True),
        ("(SELECT a FROM b) UNION (SELECT c FROM d)", True),
        ("DECLARE c CURSOR FOR SELECT a FROM b", True),
        ("EXECUTE a(1)", True),
        ("CALL a(1)", True),
        ("DO $$ BEGIN END $$", True),
        ("BEGIN", False),
    ],
)
def test_only_statements_that_read_tables_are_executed_again(text: str, reads: bool) -> None:
    """A statement that reads no rows is not executed again."""
    assert reads_tables(Executed("statement", text)) is reads


@pytest.mark.parametrize(
    ("text", "prepare", "execute"),
    [
        ("SELECT a FROM b", "PREPARE counted AS SELECT a FROM b", "EXECUTE counted"),
        ("COPY b TO STDOUT", "PREPARE counted AS SELECT * FROM b", "EXECUTE counted"),
        ('COPY s."b c" (a, d) TO STDOUT', 'PREPARE counted AS SELECT a, d FROM s."b c"', "EXECUTE counted"),
        ("COPY (SELECT a FROM b) TO STDOUT", "PREPARE counted AS SELECT a FROM b", "EXECUTE counted"),
        ("DECLARE c NO SCROLL CURSOR FOR SELECT a FROM b", "PREPARE counted AS  SELECT a FROM b", "EXECUTE counted"),
        ("CALL pay(7)", "", "CALL pay(7)"),
        ("DO $$ BEGIN PERFORM $1 END $$", "", "DO $$ BEGIN PERFORM $1 END $$"),
    ],
)
def test_statements_that_are_executed_again(text: str, prepare: str, execute: str) -> None:
    """A COPY and a cursor as their query, a procedure as it is."""
    assert again(Executed("statement", text)) == (prepare, execute)


def test_statements_are_executed_again_with_their_parameters() -> None:
    """By protocol, in a CALL, and of a statement that SQL has prepared."""
    parameters = ("'7'", "'it''s $1'")
    assert again(Executed("statement", "SELECT $1, $2", parameters))[1] == "EXECUTE counted('7', 'it''s $1')"
    assert again(Executed("statement", "CALL pay($2, $1)", parameters))[1] == "CALL pay('it''s $1', '7')"
    prepared = Executed("statement", "EXECUTE p (7, 'x')", prepared="PREPARE p (int, text) AS SELECT $1, $2")
    assert again(prepared) == ("PREPARE counted (int, text) AS SELECT $1, $2", "EXECUTE counted (7, 'x')")
    with pytest.raises(CannotCount, match="does not show what was prepared"):
        again(Executed("statement", "EXECUTE p"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("SELECT Total($1), lower('X')", {"total", "lower"}),
        ("SELECT shop.total ($1)", {"total"}),
        ("SELECT total(id) FROM item", set()),
        ("SELECT pg_advisory_unlock_all(); RESET ALL", set()),
        ("CALL pay(1)", set()),
    ],
)
def test_functions_that_a_select_without_a_table_calls(text: str, names: set[str]) -> None:
    """They may read tables."""
    assert functions_in(text) == names
