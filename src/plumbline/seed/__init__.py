"""`python -m plumbline.seed`: fill the empty tables of the run's PostgreSQL with made-up rows."""

MODULE = "plumbline.seed"  # as in `python -m plumbline.seed`
LEFT_EMPTY = "left empty: "  # in its lines about tables without rows
