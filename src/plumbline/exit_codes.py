"""Exit codes of every command."""

EXIT_PASS = 0
# A regression, a broken budget, a grown count, or a failed test.
EXIT_REGRESSION = 1
EXIT_USAGE = 2
# No verdict can be trusted: a service not ready, nothing measured, a failed control.
EXIT_INVALID = 3
EXIT_INCONCLUSIVE = 4
EXIT_INTERRUPTED = 130
