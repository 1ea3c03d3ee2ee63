"""How texts are read in every language: words, verdicts, options. Pure text, and imports no other package of the project."""
