"""Many files: what there is to do, what is done, and who does it."""
