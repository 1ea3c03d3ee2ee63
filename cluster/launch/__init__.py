"""Files that start a cluster on AWS, GCP, Azure, Kubernetes or through SkyPilot, and what checks them offline."""
