"""The DeepSpeed learner ranks, and the group of them that the loop calls."""
