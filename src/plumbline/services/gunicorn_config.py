"""The options of gunicorn for an application that settings.toml names by `wsgi`. gunicorn reads this file.

It replaces a gunicorn.conf.py of the user. gunicorn ignores names that its version does not know.
"""

workers = 1
worker_class = "gthread"  # the other classes of gunicorn close each connection, or patch the standard library
# As steady as one thread: standard deviation of a block 0.8 %, with 20 threads up to 3 %.
threads = 4
# Longer than any run: the server must not close a client's idle connection between two benchmarks.
keepalive = 3600
timeout = 0  # a paused worker is not replaced
graceful_timeout = 0  # clients keep their connections open
loglevel = "warning"
control_socket_disable = True  # it would be a file in HOME, shared by all servers
