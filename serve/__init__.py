"""Ray Serve: a trained policy behind an OpenAI-compatible endpoint."""
