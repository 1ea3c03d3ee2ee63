"""What watches a run: Prometheus, its alert rules with their tests, and a dashboard for Grafana."""
