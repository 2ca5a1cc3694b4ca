"""Which images make up an episode: pure functions of an explicit random generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from egt_tf.config import EpisodeConfig
from egt_tf.data.image_set import ImageSet
from egt_tf.data.mixture import Mixture, domains
from egt_tf.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class EpisodeIndices:
    """The images of one episode.

    Attributes:
        classes: positions of the episode's classes in the image set, int64 `(ways,)`.
        support: image indices, int64 `(ways, shots)`; row k belongs to `classes[k]`.
        query: image indices, int64 `(ways, queries)`; no index occurs in `support` too.

    Example:
        >>> EpisodeIndices(np.array([4, 1]), np.array([[8], [2]]), np.array([[9], [3]])).images
        array([8, 2, 9, 3])
    """

    classes: np.ndarray
    support: np.ndarray
    query: np.ndarray

    @property
    def images(self) -> np.ndarray:
        """All image indices, support first, class by class, int64 `(ways * (shots + queries),)`."""
        return np.concatenate([self.support.ravel(), self.query.ravel()]).astype(np.int64)


def episode_generator(seed: int, index: int, attempt: int = 0) -> np.random.Generator:
    """Returns the random generator of episode number `index` in the stream `seed`.

    It depends on these numbers only, so a run can continue at any episode. Streams of different seeds, episodes
    of one stream, and attempts at one episode are independent.

    Raises:
        ConfigError: a number is negative.
    """
    if seed < 0 or index < 0 or attempt < 0:
        raise ConfigError(
            f"`seed`, `index` and `attempt` must be >= 0. Received: seed={seed}, index={index}, attempt={attempt}"
        )
    return generator_of(seed, index, attempt) if attempt else generator_of(seed, index)


def draw_domain(weights: Sequence[float], seed: int, index: int) -> int:
    """Returns the domain of episode number `index` in the stream `seed`, domain d with probability ~ `weights[d]`.

    It is a pure function of its arguments, and independent of what `episode_generator` gives.
    """
    bounds = np.cumsum(weights)
    # Attempts begin at 1 in the key, so that 0 is free.
    return int(np.searchsorted(bounds[:-1], generator_of(seed, index, 0).random() * bounds[-1], side="right"))


def draw_episode(
    images: ImageSet, episode: EpisodeConfig, seed: int, index: int
) -> tuple[EpisodeIndices, np.random.Generator]:
    """Draws episode number `index` of the stream `seed`, from one domain if `images` is a mixture.

    Where `images` skips unreadable images, an episode with such images is drawn again without them, from the same
    domain, until all can be read; the outcome depends on `seed`, `index` and these images only.

    Args:
        images: the classes to draw from; `check_feasible` says whether there are enough.
        episode: ways, shots and queries.
        seed, index: see `episode_generator`.

    Returns:
        The episode and its generator, which gives the random numbers of the augmentation.

    Raises:
        DataError: without the unreadable images a class has too few.

    Example:
        >>> from egt_tf.data import open_source
        >>> images = open_source("synthetic:shapes").split("novel")
        >>> episode, _ = draw_episode(images, EpisodeConfig(ways=3, shots=2, queries=4), seed=1, index=0)
        >>> episode.support.shape, episode.query.shape
        ((3, 2), (3, 4))
    """
    attempt = 0
    while True:
        rng = episode_generator(seed, index, attempt)
        drawn = _sample(images, episode, rng, seed, index)
        left_out = images.unreadable_among(drawn.images)
        if not left_out:
            return drawn, rng
        images = replace(images, members=tuple(m[~np.isin(m, left_out)] for m in images.members))
        check_feasible(images, episode)
        attempt += 1


def _sample(
    images: ImageSet, episode: EpisodeConfig, rng: np.random.Generator, seed: int, index: int
) -> EpisodeIndices:
    if not isinstance(images, Mixture):
        return sample_episode(images.members, episode, rng)
    classes = images.domain_classes[_domain(images, seed, index)]
    drawn = sample_episode(images.members[classes.start : classes.stop], episode, rng)
    return replace(drawn, classes=drawn.classes + classes.start)


def _domain(images: Mixture, seed: int, index: int) -> int:
    weights = list(images.weights)
    if images.counterpart_of is not None:
        weights[draw_domain(weights, images.counterpart_of, index)] = 0.0
    return draw_domain(weights, seed, index)


def generator_of(seed: int, *key: int) -> np.random.Generator:
    """The random generator that `key` has among those of a seed."""
    # A spawn key, not entropy=[seed, index]: lists of numbers that differ by a zero word give equal streams.
    return np.random.default_rng(np.random.SeedSequence(int(seed), spawn_key=tuple(map(int, key))))


def sample_episode(members: Sequence[np.ndarray], episode: EpisodeConfig, rng: np.random.Generator) -> EpisodeIndices:
    """Draws an episode: classes uniformly, then images of each class uniformly, all without replacement.

    Args:
        members: the image indices of every class; `check_feasible` says whether there are enough.
        episode: ways, shots and queries.
        rng: the source of randomness; the episode is a function of its state.

    Raises:
        ValueError: fewer classes than ways, or a class with fewer than shots + queries images.
    """
    classes = rng.choice(len(members), episode.ways, replace=False)
    drawn = np.stack([rng.choice(members[c], episode.shots + episode.queries, replace=False) for c in classes])
    return EpisodeIndices(classes, drawn[:, : episode.shots], drawn[:, episode.shots :])


def check_feasible(images: ImageSet, episode: EpisodeConfig) -> None:
    """Checks that every class could be drawn for an episode, in every domain of a mixture.

    Raises:
        DataError: fewer classes than ways, or a class with fewer than shots + queries images. The message
            names the class and both numbers.

    Example:
        >>> from egt_tf.data import open_source
        >>> check_feasible(open_source("synthetic:shapes").split("novel"), EpisodeConfig(ways=30))
        Traceback (most recent call last):
        egt_tf.errors.DataError: a 30-way episode needs 30 classes. Received: ... has 20; take fewer ways
    """
    for name, classes in domains(images):
        if len(classes) < episode.ways:
            raise DataError(
                f"a {episode.ways}-way episode needs {episode.ways} classes. Received: {name} has "
                f"{len(classes)}; take fewer ways"
            )
        for position in classes:
            _check_class(name, images.class_names[position], len(images.members[position]), episode)


def check_all_feasible(sets: Sequence[ImageSet], episode: EpisodeConfig) -> None:
    """As `check_feasible` for several image sets; the message names the settings that all of them allow, if any do.

    Raises:
        DataError: see `check_feasible`.

    Example:
        >>> from egt_tf.data import open_source
        >>> source = open_source("synthetic:shapes")
        >>> check_all_feasible([source.split("base"), source.split("val")], EpisodeConfig(ways=30))
        Traceback (most recent call last):
        egt_tf.errors.DataError: a 30-way episode needs 30 classes. ... this would do: --set episode.ways=20
    """
    try:
        for images in sets:
            check_feasible(images, episode)
    except DataError as error:
        settings = settings_that_do(sets, episode)
        raise DataError(f"{error}; this would do: {settings}" if settings else str(error)) from error


def settings_that_do(sets: Sequence[ImageSet], episode: EpisodeConfig) -> str:
    """The settings by which an episode fits all image sets, "--set episode.ways=3"; empty if it does, or if none do."""
    possible = largest_episode(sets, episode)
    if possible is None:
        return ""
    changed = [key for key in ("ways", "shots", "queries") if getattr(possible, key) != getattr(episode, key)]
    return " ".join(f"--set episode.{key}={getattr(possible, key)}" for key in changed)


def largest_episode(sets: Sequence[ImageSet], episode: EpisodeConfig) -> EpisodeConfig | None:
    """The episode nearest to a given one that every class of every image set allows.

    Ways, shots and queries never become more; queries give way before shots do.

    Args:
        sets: what it is drawn from, each by itself.
        episode: what is wanted.

    Returns:
        It, or None if a set has fewer than two classes, or a class fewer than two images.

    Example:
        >>> from egt_tf.data import open_source
        >>> largest_episode([open_source("synthetic:shapes").split("val")], EpisodeConfig(30, 5, 16)).ways
        20
    """
    parts = [(images, classes) for images in sets for _, classes in domains(images)]
    ways = min(episode.ways, *(len(classes) for _, classes in parts))
    smallest = min((len(images.members[c]) for images, classes in parts for c in classes), default=0)
    if ways < 2 or smallest < 2:
        return None
    shots = min(episode.shots, smallest - 1)
    return EpisodeConfig(ways, shots, min(episode.queries, smallest - shots))


def narrow_lines(images: ImageSet, ways: int) -> list[str]:
    """What is to be said beside an accuracy whose episodes are of the same few classes; mostly nothing.

    The interval of such an accuracy is over images, and over episodes of these classes, not over classes.

    Args:
        images: what the episodes are drawn from.
        ways: classes of an episode.

    Returns:
        A sentence for each domain with fewer than twice as many classes as ways.

    Example:
        >>> from egt_tf.data import open_source
        >>> narrow_lines(open_source("synthetic:shapes").split("novel"), ways=20)
        ['synthetic:shapes (split novel): every episode is of the same 20 classes; the interval says nothing about others']
        >>> narrow_lines(open_source("synthetic:shapes").split("novel"), ways=5)
        []
    """
    lines = []
    for name, classes in domains(images):
        if len(classes) < 2 * ways:
            same = f"the same {ways}" if len(classes) == ways else f"{ways} of the same {len(classes)}"
            lines.append(f"{name}: every episode is of {same} classes; the interval says nothing about others")
    return lines


def _check_class(domain: str, class_name: str, size: int, episode: EpisodeConfig) -> None:
    needed = episode.shots + episode.queries
    if size < needed:
        raise DataError(
            f"{_count(episode.shots, 'shot', 'shots')} + {_count(episode.queries, 'query', 'queries')} "
            f"need {needed} images a class. Received: class '{class_name}' of {domain} has "
            f"{size}; take fewer shots or queries"
        )


def _count(number: int, singular: str, plural: str) -> str:
    return f"{number} {singular if number == 1 else plural}"
