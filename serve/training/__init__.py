"""The training service: Tinker's protocol in front of learners and engines."""
