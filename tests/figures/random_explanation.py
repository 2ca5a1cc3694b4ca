"""An explanation of random images, for tests of what is done with it."""

from __future__ import annotations

import numpy as np

from egt_tf.explain.explanation import EpisodeExplanation


def random_explanation(ways=5, shots=5, explained=2, size=12, names=None, seed=0):
    """Random images with random relevance; class 1 is the most probable, class 0 the second."""
    rng = np.random.default_rng(seed)
    probabilities = np.full(ways, 0.1 / ways)
    probabilities[:2] += [0.25, 0.65]
    return EpisodeExplanation(
        query_image=rng.integers(0, 256, (size, size, 3), dtype=np.uint8),
        class_names=names or tuple(f"{i:03d}.Kind_of_Bird_{i}" for i in range(ways)),
        probabilities=probabilities,
        explained=(1, 0, *range(2, ways))[:explained],
        query_relevance=rng.normal(size=(explained, size, size)),
        support_images=rng.integers(0, 256, (ways, shots, size, size, 3), dtype=np.uint8),
        support_relevance=rng.normal(size=(explained, ways, shots, size, size)),
        image_name="bird.jpg",
        run_name="cub-5way",
        method_name="fsc",
    )
