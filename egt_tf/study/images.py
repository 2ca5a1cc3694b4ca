"""Whether the images of a study suffice, found before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable

from egt_tf.data.mixture import open_mixture
from egt_tf.data.sampling import check_feasible
from egt_tf.data.sources import open_source
from egt_tf.study.plan import Cell, Study, with_root


def check_images(study: Study, cells: Iterable[Cell], root: str | None) -> None:
    """Checks that all sources are there, with classes and images enough for the episodes of the cells.

    Args:
        study: the plan.
        cells: those that are going to be run.
        root: the folder of the data, see `egt_tf.study.plan.with_root`.

    Raises:
        ConfigError: the folder of the data is needed and not given.
        DataError: a source cannot be opened, or has too few classes or images.

    Example:
        >>> from egt_tf.study.plan import study_from_dict
        >>> plan = {"run": {}, "heads": {"cosine": {}}, "arms": {"plain": {}}, "targets": {"fog": "synthetic:fig"}}
        >>> study = study_from_dict(plan, "example", "an example")
        >>> check_images(study, study.cells, None)
        Traceback (most recent call last):
        egt_tf.errors.DataError: unknown synthetic domain 'fig'; did you mean 'fog'? ...
    """
    configs = [cell.config(root) for cell in cells]
    if not configs:
        return
    for source in with_root(study.targets, root).values():
        images = open_source(source).split(study.evaluation.split)
        for episode in dict.fromkeys(study.test_episode(config.episode) for config in configs):
            check_feasible(images, episode)
    trained_on = dict.fromkeys(
        (sources, split, config.episode)
        for config in configs
        for sources, split in ((config.data.train_sources, "base"), (config.data.validation_sources, "val"))
    )
    for sources, split, episode in trained_on:
        check_feasible(open_mixture(sources, split), episode)
