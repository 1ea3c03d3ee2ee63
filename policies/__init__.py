"""What learns: models, prompts, log-probabilities, losses. No ray; may read `data`."""
