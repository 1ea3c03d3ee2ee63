"""The Ray processes (rollout engines, learners, weight sync) and the loop that joins them."""
