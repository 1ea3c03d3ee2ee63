"""The pages of the service: runs, samples, playground, models, keys, files, and the scoring website. No build step."""
