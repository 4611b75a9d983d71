"""How the embedded vocoder is trained: data, losses, discriminators, the loop, the export. Not part of the package."""
