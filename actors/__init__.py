"""The Ray processes (rollout engines, learners, judges, CLIP, weight sync) and the loop that joins them."""

import logging

# Not a warning to people who chose a machine without a GPU, and the driver needs none anyway.
logging.getLogger("DeepSpeed").addFilter(lambda record: record.funcName != "get_accelerator")
