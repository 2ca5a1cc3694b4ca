"""Image sources, class splits, episode sampling and the input pipeline."""
