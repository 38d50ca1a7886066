"""stackstac: rasters of a catalogue as one array, read by the workers of a cluster."""

import numpy as np
import rasterio
import stackstac
from dask.distributed import Client
from rasterio.transform import from_origin


def item(number):
    path = f"{number}.tif"
    transform = from_origin(500_000, 5_000_000, 10, 10)
    with rasterio.open(
        path, "w", driver="GTiff", height=64, width=64, count=1, dtype="float32", crs="EPSG:32633", transform=transform
    ) as raster:
        raster.write(np.full((64, 64), number, dtype="float32"), 1)
    return {
        "type": "Feature",
        "id": f"item-{number}",
        "collection": "some",
        "properties": {
            "datetime": f"2024-01-0{number}T00:00:00Z",
            "proj:epsg": 32633,
            "proj:shape": [64, 64],
            "proj:transform": list(transform)[:6],
        },
        "bbox": [14.9, 45.1, 15.1, 45.2],
        "assets": {"red": {"href": path, "type": "image/tiff; application=geotiff", "eo:bands": []}},
        "links": [],
    }


if __name__ == "__main__":
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        stack = stackstac.stack([item(1), item(2), item(3)], assets=["red"], chunksize=32, rescale=False)
        assert stack.shape == (3, 1, 64, 64)
        assert stack.mean(dim=("band", "y", "x")).compute().values.tolist() == [1.0, 2.0, 3.0]
        assert stackstac.mosaic(stack).shape == (1, 64, 64)
