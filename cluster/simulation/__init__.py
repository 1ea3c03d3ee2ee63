"""The real driver of a run against actors that only take time, on a clock that jumps."""
