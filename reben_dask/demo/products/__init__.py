"""What satellites make of the ground: acquisitions, weather, Sentinel-2 products, Sentinel-1 patches."""
