"""Signal processing from operators that every device has: transforms, mels, filterbanks, refinement."""
