"""Where patches lie, across tiles and UTM zones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyproj

from reben_dask.formats.columns import TABLE_CRS

_ELLIPSOID = pyproj.Geod(ellps="WGS84")


@dataclass(frozen=True, slots=True)
class Places:
    """Squares of patches, each in metres of its own UTM zone.

    Parameters
    ----------
    epsg : ndarray of int, shape (patch,)
        Coordinate reference systems.
    minx, maxy : ndarray of int, shape (patch,)
        Upper-left corners in these systems.
    side : ndarray of int, shape (patch,)
        Sides in metres.
    """

    epsg: npt.NDArray[np.integer]
    minx: npt.NDArray[np.integer]
    maxy: npt.NDArray[np.integer]
    side: npt.NDArray[np.integer]

    def __len__(self) -> int:
        return len(self.epsg)

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Places:
        """Some of the places, by position or by a mask."""
        return Places(self.epsg[rows], self.minx[rows], self.maxy[rows], self.side[rows])

    def distinct(self) -> Places:
        """Each place once, however many patches lie there; sorted."""
        return Places(*np.unique(np.column_stack([self.epsg, self.minx, self.maxy, self.side]), axis=0).T)

    def centres_xy(self) -> npt.NDArray[np.float64]:
        """Easting and northing of the centres in metres, shape ``(patch, 2)``; exact."""
        half = self.side / 2
        return np.column_stack([self.minx + half, self.maxy - half])

    def corners_xy(self) -> npt.NDArray[np.float64]:
        """Easting and northing of the four corners in metres, shape ``(patch, 4, 2)``."""
        west, north = self.minx, self.maxy
        east, south = west + self.side, north - self.side
        corners = [(west, north), (east, north), (east, south), (west, south)]
        return np.stack([np.column_stack(corner) for corner in corners], axis=1).astype(np.float64)

    def lonlat(self) -> npt.NDArray[np.float64]:
        """Longitude and latitude of the centres in degrees, shape ``(patch, 2)``."""
        centres, lonlat = self.centres_xy(), np.empty((len(self), 2))
        for epsg in np.unique(self.epsg).tolist():
            rows = self.epsg == epsg
            to_degrees = pyproj.Transformer.from_crs(epsg, TABLE_CRS, always_xy=True)
            lonlat[rows] = np.column_stack(to_degrees.transform(*centres[rows].T))
        return lonlat

    def geocentric(self) -> npt.NDArray[np.float64]:
        """The centres in space, in metres from the Earth's centre, shape ``(patch, 3)``.

        Straight distances between them are right within and across UTM zones: they differ from distances along the
        WGS 84 ellipsoid by a tenth of a millimetre at 5 km, 1 m at 100 km and 1 km at 1,000 km.
        """
        longitude, latitude = np.radians(self.lonlat()).T
        normal = _ELLIPSOID.a / np.sqrt(1 - _ELLIPSOID.es * np.sin(latitude) ** 2)
        across = normal * np.cos(latitude)
        upwards = normal * (1 - _ELLIPSOID.es) * np.sin(latitude)
        return np.column_stack([across * np.cos(longitude), across * np.sin(longitude), upwards])
