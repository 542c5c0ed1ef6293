"""Autoregressive models: every pixel from the earlier ones."""
