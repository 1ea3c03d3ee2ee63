"""Driving as tokens: bins of waypoints, a codebook of short motions, and how both are read back. No torch, no ray."""
