"""Algorithms, one file each: what rewards become, which groups are kept, the loss. See `algorithm.py`."""
