"""Running the stages: placement on devices, self-tests, timing, and the pipeline."""
