"""Evaluations and syntheses as HTML that needs no other file."""
