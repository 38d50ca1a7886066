"""tsfresh: features of time series, extracted on a cluster that it is given, and on one of its own."""

import numpy as np
import pandas as pd
from dask.distributed import LocalCluster
from tsfresh import extract_features
from tsfresh.feature_extraction import MinimalFCParameters
from tsfresh.utilities.distribution import ClusterDaskDistributor, LocalDaskDistributor

if __name__ == "__main__":
    series = pd.DataFrame({"id": np.repeat(range(4), 20), "time": list(range(20)) * 4, "value": np.arange(80.0)})
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        for distributor in (
            ClusterDaskDistributor(address=cluster.scheduler_address),
            LocalDaskDistributor(n_workers=2),
        ):
            features = extract_features(
                series,
                column_id="id",
                column_sort="time",
                default_fc_parameters=MinimalFCParameters(),
                distributor=distributor,
                disable_progressbar=True,
            )
            assert features["value__mean"].tolist() == [9.5, 29.5, 49.5, 69.5]
