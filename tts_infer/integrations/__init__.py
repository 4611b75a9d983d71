"""What replaces the vocoders of other packages, one file for each kind. See docs/integrations.md."""
