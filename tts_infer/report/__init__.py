"""Figures, pictures and pages as HTML."""
