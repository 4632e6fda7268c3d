"""`python -m plumbline.seed`: fill the empty tables of the run's PostgreSQL with made-up rows."""
