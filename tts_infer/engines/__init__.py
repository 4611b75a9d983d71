"""The means by which a stage computes: torch, oneDNN, CUDA graphs, and the official package to compare with."""
