"""Methods that explain a prediction, and the explanation of one query of an episode."""
