"""How a constructed set of samples came to be: its record, its account, and the scores it was chosen by."""
