"""Answers beside answers: before and after a training, and run beside run. May read `suites`."""
