"""Adversarial models: a generator against a discriminator."""
