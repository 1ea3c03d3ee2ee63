"""Keeping actors alive: where they live, how they are waited for, and what starts them again when they are lost."""
