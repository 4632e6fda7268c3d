"""The part that is left out where it isn't wanted: HTML report, history, exports, and what got slower by a profiler."""
