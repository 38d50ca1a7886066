"""dask-image: filters, labels and measures of an image in chunks, on a cluster."""

import dask.array as da
import dask_image.ndfilters
import dask_image.ndmeasure
import numpy as np
import scipy.ndimage
from dask.distributed import Client

if __name__ == "__main__":
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        values = np.random.default_rng(0).random((300, 300))
        image = da.from_array(values, chunks=(100, 100))
        smooth = dask_image.ndfilters.gaussian_filter(image, sigma=3).compute()
        assert np.allclose(smooth, scipy.ndimage.gaussian_filter(values, sigma=3, truncate=4))
        labels, count = dask_image.ndmeasure.label(image > 0.7)
        assert count.compute() == scipy.ndimage.label(values > 0.7)[1]
        sums = dask_image.ndmeasure.sum_labels(image, labels, range(1, 4)).compute()
        assert np.allclose(sums, scipy.ndimage.sum_labels(values, labels.compute(), range(1, 4)))
