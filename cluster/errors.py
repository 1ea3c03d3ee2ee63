"""What can go wrong before a run's processes stand. Imports nothing."""

from __future__ import annotations


class PlanError(ValueError):
    """A recipe whose processes contradict each other; the message names the fields."""


class PlacementError(RuntimeError):
    """A bundle that could not be placed; the message names it, what it asked for and what the cluster has."""


class SessionError(RuntimeError):
    """Ray could not be joined or started as asked; the message names the field."""
