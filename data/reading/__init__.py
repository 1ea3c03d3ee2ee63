"""How texts are read in every language: words, verdicts, options. Pure text, and imports nothing of the house."""
