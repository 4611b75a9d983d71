"""How good a vocoder is: copies of recordings, measured, side by side, with a report."""
