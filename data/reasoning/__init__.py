"""Reasoning beside an answer: its records, how a teacher is asked for it, and the asking."""
