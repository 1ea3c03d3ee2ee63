"""How texts are read in every language: words, verdicts, options. Imports no other package of the project."""
