"""Engines that sample responses, and the pool that spreads requests over them."""
