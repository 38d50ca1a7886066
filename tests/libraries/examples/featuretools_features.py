"""featuretools: features of related tables, calculated in parallel on a cluster."""

import featuretools as ft
from dask.distributed import LocalCluster

if __name__ == "__main__":
    tables = ft.demo.load_mock_customer(return_entityset=True)
    expected, definitions = ft.dfs(entityset=tables, target_dataframe_name="customers", max_depth=1)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        got = ft.calculate_feature_matrix(
            definitions, entityset=tables, n_jobs=2, dask_kwargs={"cluster": cluster.scheduler_address}, chunk_size=2
        )
    assert got.sort_index()["COUNT(sessions)"].tolist() == expected.sort_index()["COUNT(sessions)"].tolist()
