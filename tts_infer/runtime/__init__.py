"""Where the stages run: placement, proof, timing, and the pipeline in which they meet."""
