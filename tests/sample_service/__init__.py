"""A small API on PostgreSQL and Redis: the code under test. Replace it with your own application.

python -m tests.sample_service.prepare        creates and fills the tables
uvicorn tests.sample_service.app:app          serves the API
python -m tests.sample_service.worker         stores the events that the API receives
"""
