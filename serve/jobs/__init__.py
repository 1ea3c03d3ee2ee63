"""Files, and fine-tuning jobs on them, in OpenAI's dialect; they run as Ray jobs, on the recipes of the scripts."""
