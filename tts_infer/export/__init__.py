"""Export: vocoders as files for other runtimes."""
