"""Running the service: logs, metrics, backup, collection, and the right to serve a database."""
