"""What was published: BigEarthNet v1 and v2 as others made them, their GeoTIFF trees and their tables."""
