"""What a policy is asked that drives in CARLA: the same words in its training data and in Bench2Drive's agent.

The agent's Python is 3.7: the standard library alone, and no syntax that is newer.
"""

from __future__ import annotations


def drive_question(speed: float, ahead: float, left: float) -> str:
    """The dashboard and where the route leads.

    Args:
        speed: m/s.
        ahead, left: metres to the next point of the route, seen from the vehicle.
    """
    aside = f"{abs(left):.1f} m to the {'left' if left >= 0 else 'right'}"
    return f"Speed {speed:.1f} m/s. The next point of the route is {ahead:.1f} m ahead and {aside}. What do you do?"
