"""xgboost.dask, as its documentation has it: train, predict, the scikit-learn interface, and within one event loop."""

import asyncio

import dask.array as da
import dask.distributed
from xgboost import dask as dxgb


async def train_asynchronously(scheduler_address, X, y):
    async with dask.distributed.Client(scheduler_address, asynchronous=True) as client:
        m = await dxgb.DaskQuantileDMatrix(client, X, y)
        output = await dxgb.train(client, {"tree_method": "hist"}, dtrain=m, num_boost_round=2)
        predictions = await dxgb.predict(client, output, m)
        return await client.compute(predictions)


if __name__ == "__main__":
    cluster = dask.distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    client = dask.distributed.Client(cluster)

    num_obs = 1e4
    num_features = 20
    X = da.random.random(size=(num_obs, num_features), chunks=(1000, num_features))
    y = da.random.random(size=(num_obs, 1), chunks=(1000, 1))

    dtrain = dxgb.DaskDMatrix(client, X, y)
    output = dxgb.train(
        client,
        {"verbosity": 1, "tree_method": "hist", "objective": "reg:squarederror"},
        dtrain,
        num_boost_round=4,
        evals=[(dtrain, "train")],
    )
    assert len(output["history"]["train"]["rmse"]) == 4
    assert dxgb.predict(client, output, dtrain).compute().shape == (num_obs,)

    booster_f = client.scatter(output["booster"], broadcast=True)
    assert dxgb.inplace_predict(client, booster_f, X).compute().shape == (num_obs,)

    regressor = dxgb.DaskXGBRegressor(n_estimators=5, tree_method="hist")
    regressor.client = client
    regressor.fit(X, y, eval_set=[(X, y)])
    assert regressor.predict(X).compute().shape == (num_obs,)

    classifier = dxgb.DaskXGBClassifier(n_estimators=5)
    classifier.client = client
    classifier.fit(X, (y[:, 0] > 0.5).astype(int))
    assert classifier.predict_proba(X).compute().shape == (num_obs, 2)

    assert asyncio.run(train_asynchronously(cluster.scheduler_address, X, y)).shape == (num_obs,)
    client.close()
    cluster.close()
