"""A local page for people without a terminal: what one visitor has taught, and the page itself."""
