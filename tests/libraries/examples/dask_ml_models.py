"""dask-ml: splitting, clustering, a grid search, learning in pieces, a linear model."""

from dask.distributed import Client

if __name__ == "__main__":
    client = Client(n_workers=2, threads_per_worker=1, dashboard_address=None)

    from dask_ml.cluster import KMeans
    from dask_ml.datasets import make_blobs, make_classification
    from dask_ml.linear_model import LogisticRegression
    from dask_ml.model_selection import GridSearchCV, train_test_split
    from dask_ml.wrappers import Incremental
    from sklearn.datasets import make_classification as make_small_classification
    from sklearn.linear_model import SGDClassifier
    from sklearn.svm import SVC

    X, y = make_classification(n_samples=2000, n_features=20, chunks=500, random_state=0)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=0)
    assert len(y_test) == 400

    blobs, _ = make_blobs(n_samples=4000, chunks=1000, random_state=0, centers=3)
    km = KMeans(n_clusters=3, init_max_iter=2, oversampling_factor=10, random_state=0)
    km.fit(blobs)
    assert set(km.labels_.compute()) == {0, 1, 2}

    search = GridSearchCV(SVC(), {"C": [0.1, 1, 10]}, cv=3)
    search.fit(*make_small_classification(n_samples=300, random_state=0))
    assert search.best_score_ > 0.8

    incremental = Incremental(SGDClassifier(random_state=0))
    incremental.fit(X_train, y_train, classes=[0, 1])
    assert incremental.score(X_test, y_test) > 0.5

    regression = LogisticRegression()
    regression.fit(X_train, y_train)
    assert float(regression.score(X_test, y_test)) > 0.5
    client.close()
