"""A small real API on PostgreSQL and Redis: the code under test, to be replaced by your own.

python -m tests.sample_service.prepare        creates the tables and seeds them; may be run again
uvicorn tests.sample_service.app:app          the API
python -m tests.sample_service.worker         stores the events that the API takes in
"""
