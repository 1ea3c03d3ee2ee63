"""Episodes: environments in processes of their own, driven turn by turn over the rollout engines."""
