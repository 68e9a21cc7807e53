"""How far test patches are from training patches: what a geographic split is for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from scipy.spatial import cKDTree

from reben_dask.patches.places import Places

APART, TOUCHING, OVERLAPPING = 0, 1, 2
"""Contact of a patch with the nearest of others: none; an edge or a corner; more than that."""

_DIAGONAL = 2**-0.5
_STRETCH = 1.01
"""A metre of a UTM zone is 0.9996 to 1.0022 metres on the ground as far as tiles reach beyond their zone."""

_CHUNK = 4096


class Nearest(NamedTuple):
    """The nearest training patch of each test patch.

    Parameters
    ----------
    train : ndarray of int64, shape (test,)
        Its position among the training patches. Of several at the same distance it is any one.
    distance_m : ndarray of float64, shape (test,)
        Distance of the centres.
    contact : ndarray of int8, shape (test,)
        Contact with any training patch: :data:`APART`, :data:`TOUCHING` or :data:`OVERLAPPING`.
    """

    train: npt.NDArray[np.int64]
    distance_m: npt.NDArray[np.float64]
    contact: npt.NDArray[np.int8]


def nearest_training(test: Places, train: Places) -> Nearest:
    """Find the nearest training patch of each test patch, across tiles and UTM zones.

    Parameters
    ----------
    test, train : Places
        At least one patch each.

    Returns
    -------
    Nearest
        In the order of ``test``.

    Notes
    -----
    The distribution of these distances is what Milà et al. (2022, Methods in Ecology and Evolution 13, 1304-1316) and
    Meyer and Pebesma (2022, Nature Communications 13, 2208) look at to tell what a test set can say about places that
    were not seen in training.
    """
    distance, position = cKDTree(train.geocentric()).query(test.geocentric())
    return Nearest(position.astype(np.int64), distance, contact(test, train))


def contact(test: Places, train: Places) -> npt.NDArray[np.int8]:
    """Whether each patch touches or overlaps any of the training patches.

    Within a UTM zone this is decided in whole metres. Patches of different zones are turned against each other; there,
    those that meet overlap.

    Parameters
    ----------
    test, train : Places
        Patches.

    Returns
    -------
    ndarray of int8, shape (test,)
        :data:`APART`, :data:`TOUCHING` or :data:`OVERLAPPING`.
    """
    found = np.full(len(test), APART, np.int8)
    train = train.distinct()
    centres = test.geocentric()
    for epsg in np.unique(train.epsg).tolist():
        trained = train.take(train.epsg == epsg)
        same = np.flatnonzero(test.epsg == epsg)
        found[same] = np.maximum(found[same], _contact_in_zone(test.take(same), trained))
        others = np.flatnonzero((test.epsg != epsg) & (found != OVERLAPPING))
        meets = _meets_across_zones(test.take(others), centres[others], trained)
        found[others[meets]] = OVERLAPPING
    return found


def _contact_in_zone(test: Places, train: Places) -> npt.NDArray[np.int8]:
    found = np.full(len(test), APART, np.int8)
    for side in np.unique(train.side).tolist():
        # Squares meet where their centres are less apart than their sides, in the larger of the two directions.
        # Centres on a grid are often in line: a balanced tree would take long to find its medians.
        tree = cKDTree(train.take(train.side == side).centres_xy(), balanced_tree=False, compact_nodes=False)
        distance, _ = tree.query(test.centres_xy(), p=np.inf)
        reach = (test.side + side) / 2
        found = np.maximum(found, np.select([distance < reach, distance == reach], [OVERLAPPING, TOUCHING], APART))
    return found.astype(np.int8)


def _meets_across_zones(test: Places, centres: npt.NDArray[np.float64], train: Places) -> npt.NDArray[np.bool_]:
    """Which patches meet one of the training patches, which are all of one other zone."""
    meets = np.zeros(len(test), bool)
    if not meets.size:
        return meets
    tree = cKDTree(train.geocentric())
    reach = (test.side + train.side.max()) * _DIAGONAL * _STRETCH
    distance, _ = tree.query(centres, distance_upper_bound=float(reach.max()) * _STRETCH)
    near = np.flatnonzero(distance <= reach)
    for start in range(0, len(near), _CHUNK):
        rows = near[start : start + _CHUNK]
        neighbours = tree.query_ball_point(centres[rows], reach[rows])
        left = np.repeat(rows, [len(found) for found in neighbours])
        right = np.concatenate([np.asarray(found, np.int64) for found in neighbours])
        crossing = _squares_meet(test.take(left), train.take(right))
        meets[left[crossing]] = True
    return meets


def _squares_meet(test: Places, train: Places) -> npt.NDArray[np.bool_]:
    """Whether the squares of each pair meet, in the zone of the first; all of the second are of one other zone."""
    meets = np.zeros(len(test), bool)
    for epsg in np.unique(test.epsg).tolist():
        rows = np.flatnonzero(test.epsg == epsg)
        corners = train.take(rows).corners_xy()
        moved = pyproj.Transformer.from_crs(int(train.epsg[0]), epsg, always_xy=True).transform(
            corners[..., 0], corners[..., 1]
        )
        squares = shapely.polygons(test.take(rows).corners_xy())
        meets[rows] = shapely.intersects(squares, shapely.polygons(np.stack(moved, axis=-1)))
    return meets
