"""Latent-variable models: codes and decoders."""
