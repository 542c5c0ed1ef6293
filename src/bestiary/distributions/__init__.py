"""Distributions: log-probabilities in nats."""
