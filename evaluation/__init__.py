"""Benchmarks: protocols, metrics and reports. No ray; may read `data` and `rewards`."""
