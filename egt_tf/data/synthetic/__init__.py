"""Image domains drawn from a seed: composed shapes with the mask of the object, so no download is needed.

A class is an arrangement of two kinds of components, for instance "star-in-disc", "heart-above-square" or
"three-drops-around-cross". The classes are the same in every domain; what changes is how they are rendered.
Position, size, rotation, mirroring, colour, stroke width and clutter are drawn anew for every image and say
nothing about its class.
"""

from egt_tf.data.synthetic.classes import CLASS_NAMES, IMAGES_PER_CLASS
from egt_tf.data.synthetic.drawing import DRAWN_DOMAINS, check_domain, draw

__all__ = ["CLASS_NAMES", "DRAWN_DOMAINS", "IMAGES_PER_CLASS", "check_domain", "draw"]
