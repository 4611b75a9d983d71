"""Measurements against peers: one command each, all contestants in one interleaved run."""
