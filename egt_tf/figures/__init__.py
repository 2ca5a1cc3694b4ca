"""Pictures of explanations: colour maps, the canvas, the figures."""
