"""What can be wrong with a policy."""


class PolicyError(ValueError):
    """A model that cannot be used as a policy; the message names the folder, hub name or setting and what is wrong."""


class BudgetError(ValueError):
    """A response that no micro-batch can hold; the message names the lengths and the setting."""
