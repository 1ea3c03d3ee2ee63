"""Rewards as a service: what an answer is worth, by the judge, the CLIP, the cache and the limits of training."""
