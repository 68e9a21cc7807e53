"""Published BigEarthNet v1 and v2: GeoTIFF trees and tables."""
