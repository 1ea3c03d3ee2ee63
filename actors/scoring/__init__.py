"""Judges, CLIP and rules behind one call: a finished rollout gets its score."""
