"""Measurements against other software: one command each. All systems take turns in one run."""
