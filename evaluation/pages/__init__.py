"""The HTML pages and what is drawn on them. Reads every other part of `evaluation`; none of them reads it."""
