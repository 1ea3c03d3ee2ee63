"""Rendered scenes: what is in one, its drawing by six cameras, its questions with exact answers."""
