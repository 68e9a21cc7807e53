"""The invented ground: terrain, parcels of land cover, countries, and what they reflect."""
