"""Asking a model the questions of a benchmark: on engines, at an endpoint, beside a training."""
