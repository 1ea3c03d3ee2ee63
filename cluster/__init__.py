"""Where the actors run: sessions, resource plans, placement, launch files, doctor."""
