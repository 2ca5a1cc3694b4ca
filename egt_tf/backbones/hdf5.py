"""Reads arrays of HDF5 files that nobody vouches for.

Such a file may refer to others: by links, by arrays whose numbers lie in any file of the machine (CVE-2026-1669), by
arrays put together from those of other files. A few bytes may describe an array that no memory holds. Here links are
followed inside the file only, and an array is read after its shape is known to be the wanted one.
"""

from __future__ import annotations

import h5py


def member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """A group or an array of a file, which lies in this file itself.

    Args:
        group: the group that it is in.
        name: its name there; slashes lead through groups.

    Raises:
        KeyError: there is none.
        ValueError: it lies elsewhere, or `group` is an array.

    Example:
        >>> import io
        >>> with h5py.File(io.BytesIO(), "w") as file:
        ...     file["layers/conv/kernel"] = np.ones(3)
        ...     file["elsewhere"] = h5py.ExternalLink("other.h5", "kernel")
        ...     print(member(file, "layers/conv/kernel").shape)
        ...     member(file, "elsewhere")
        Traceback (most recent call last):
        ValueError: 'elsewhere' is a link, which is not followed
    """
    found = group
    for part in name.strip("/").split("/"):
        if not isinstance(found, h5py.Group):
            raise ValueError(f"{name!r} leads through what is no group")
        link = found.get(part, getlink=True)
        if link is None:
            raise KeyError(f"there is no {name!r} in {group.name!r}")
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{name!r} is a link, which is not followed")
        found = found[part]
    if isinstance(found, h5py.Dataset) and (found.external or found.is_virtual):
        raise ValueError(f"the numbers of {name!r} lie in another file, which is not read")
    return found


def shape_of(array: h5py.Group | h5py.Dataset) -> tuple[int, ...]:
    """The shape of an array, before it is read.

    Raises:
        ValueError: it is no array of floating-point numbers.

    Example:
        >>> import io
        >>> with h5py.File(io.BytesIO(), "w") as file:
        ...     file["kernel"] = np.ones((3, 2))
        ...     print(shape_of(member(file, "kernel")))
        (3, 2)
    """
    if not isinstance(array, h5py.Dataset) or array.shape is None or array.dtype.kind != "f":
        raise ValueError(f"{array.name!r} is no array of floating-point numbers")
    return tuple(array.shape)
