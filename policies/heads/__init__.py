"""Driving tokens in a policy: added to its vocabulary, learnt with adapters too, sampled where one is due."""
