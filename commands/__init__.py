"""What the scripts do, one file a command: read the command line, check it, and call the actors."""
