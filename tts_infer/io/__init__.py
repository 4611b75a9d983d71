"""What comes from disk and goes to disk: audio, features, and how they are written."""
