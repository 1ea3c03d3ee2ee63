"""What a run leaves behind: its folder, journal, provenance and live table."""
