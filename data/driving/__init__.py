"""The closed-loop world: roads, road users, six cameras, a privileged expert. No torch, no ray."""
