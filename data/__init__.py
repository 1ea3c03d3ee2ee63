"""What a driving question is and where it comes from. Imports neither torch nor ray."""
