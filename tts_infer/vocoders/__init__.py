"""Families of vocoders, and how their checkpoints are read."""
