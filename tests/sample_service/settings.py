"""Settings, read from the environment once, at import."""

import os

DATABASE_URL = os.environ.get("SAMPLE_DATABASE_URL", "postgresql://localhost/sample")
REDIS_URL = os.environ.get("SAMPLE_REDIS_URL", "redis://localhost:6379/0")
KEY_PREFIX = os.environ.get("SAMPLE_KEY_PREFIX", "sample:")
"""Begins every Redis key, the stream's too."""

POOL_SIZE = int(os.environ.get("SAMPLE_POOL_SIZE", "10"))
CONNECT_TIMEOUT_S = float(os.environ.get("SAMPLE_CONNECT_TIMEOUT_S", "2"))
COMMAND_TIMEOUT_S = float(os.environ.get("SAMPLE_COMMAND_TIMEOUT_S", "1"))
CACHE_TTL_S = int(os.environ.get("SAMPLE_CACHE_TTL_S", "60"))

STREAM = f"{KEY_PREFIX}events"
STREAM_LENGTH = 100_000
"""Older events are dropped, roughly, beyond this many."""
WORKER_NAME = os.environ.get("SAMPLE_WORKER_NAME", "worker-1")
"""Keep it over restarts, and different for workers that run side by side: pending events belong to a name."""
