"""Is this machine fit to train on? What is installed, what there is to compute with, whether a guided step works."""
