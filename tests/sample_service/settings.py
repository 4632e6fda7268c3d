"""Settings from environment variables, read at import."""

import os

DATABASE_URL = os.environ.get("SAMPLE_DATABASE_URL", "postgresql://localhost/sample")
REDIS_URL = os.environ.get("SAMPLE_REDIS_URL", "redis://localhost:6379/0")
# Every Redis key begins with this, including the stream's.
KEY_PREFIX = os.environ.get("SAMPLE_KEY_PREFIX", "sample:")

POOL_SIZE = int(os.environ.get("SAMPLE_POOL_SIZE", "10"))
CONNECT_TIMEOUT_S = float(os.environ.get("SAMPLE_CONNECT_TIMEOUT_S", "2"))
COMMAND_TIMEOUT_S = float(os.environ.get("SAMPLE_COMMAND_TIMEOUT_S", "1"))
CACHE_TTL_S = int(os.environ.get("SAMPLE_CACHE_TTL_S", "60"))

STREAM = f"{KEY_PREFIX}events"
# Redis drops the oldest events when the stream is about this long.
STREAM_LENGTH = 100_000
# Give each worker a name of its own and keep it across restarts: Redis stores unacknowledged events by name.
WORKER_NAME = os.environ.get("SAMPLE_WORKER_NAME", "worker-1")
