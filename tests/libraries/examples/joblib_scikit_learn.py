"""scikit-learn's searches with joblib's dask backend, as joblib and dask-ml document it."""

import joblib
import numpy as np
from dask.distributed import Client
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.svm import SVC

if __name__ == "__main__":
    client = Client(n_workers=2, threads_per_worker=1, dashboard_address=None)
    digits = load_digits()
    param_space = {"C": np.logspace(-2, 2, 5), "gamma": np.logspace(-4, -2, 5), "class_weight": [None, "balanced"]}
    model = SVC(kernel="rbf")
    search = RandomizedSearchCV(model, param_space, cv=2, n_iter=4, random_state=0)
    with joblib.parallel_backend("dask"):
        search.fit(digits.data, digits.target)
    assert search.best_score_ > 0.8

    grid = GridSearchCV(model, {"C": [1, 10], "gamma": [0.001]}, cv=2)
    with joblib.parallel_config(backend="dask", scatter=[digits.data, digits.target]):
        grid.fit(digits.data, digits.target)
    assert grid.best_score_ > 0.9
    client.close()
