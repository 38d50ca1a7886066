"""TPOT's search for pipelines on a client that it is given."""

import sklearn.datasets
import sklearn.model_selection
import tpot
from dask.distributed import Client, LocalCluster

if __name__ == "__main__":
    X, y = sklearn.datasets.load_iris(return_X_y=True)
    X_train, X_test, y_train, y_test = sklearn.model_selection.train_test_split(X, y, random_state=0)
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    client = Client(cluster)
    search_space = tpot.search_spaces.pipelines.ChoicePipeline(
        [tpot.config.get_search_space(["KNeighborsClassifier", "GaussianNB", "DecisionTreeClassifier"])]
    )
    est = tpot.TPOTEstimator(
        client=client,
        scorers=["roc_auc_ovr"],
        scorers_weights=[1],
        classification=True,
        cv=2,
        search_space=search_space,
        population_size=4,
        generations=1,
        random_state=0,
    )
    est.fit(X_train, y_train)
    assert sklearn.metrics.accuracy_score(y_test, est.predict(X_test)) > 0.8
    client.close()
    cluster.close()
