"""Talking to the base model and to every adapter that a tenant has, in OpenAI's dialect."""
