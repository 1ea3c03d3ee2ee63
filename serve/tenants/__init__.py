"""Who may ask for what: keys, scopes, quotas, rates, and the record of what was done."""
