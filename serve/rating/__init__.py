"""Sets of answers that people rate: drawing them, links, the rater's desk, export, agreement with judges."""
