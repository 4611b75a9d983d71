"""What this machine has, and what an Apple GPU would make of the stages."""
