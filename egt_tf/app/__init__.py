"""A page in the browser that learns, classifies and explains: what a visitor has taught, and what shows it."""

# Taken from its files: what is found out before the page is built imports no TensorFlow.
__all__: list[str] = []
