"""The service's database: its tables, how they are reached, and how an older one is brought up to date."""
