"""Pictures of explanations: colour maps, the canvas, the figures."""

from egt_tf.figures.canvas import Canvas
from egt_tf.figures.colormap import overlay, scaled, shared_scale
from egt_tf.figures.comparison import draw_comparison, draw_maps
from egt_tf.figures.explanation import draw_explanation, save_figure

__all__ = [
    "Canvas",
    "draw_comparison",
    "draw_explanation",
    "draw_maps",
    "overlay",
    "save_figure",
    "scaled",
    "shared_scale",
]
