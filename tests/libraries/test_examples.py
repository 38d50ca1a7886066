"""Documented examples of other libraries, unchanged but for their size, on real clusters; each in a process of its own.

Skipped where the library is absent. `make libraries` runs them all, in an environment that has the libraries.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "src"
#: Seconds that an example may take before it counts as hanging; Prefect starts a server.
PATIENCE = 300

#: Per example, the modules without which it is skipped.
EXAMPLES = {
    "afar_block": ("afar",),
    "coffea_processor": ("coffea", "uproot"),
    "cubed_arrays": ("cubed",),
    "dask_cloudprovider_vm": ("dask_cloudprovider",),
    "dask_databricks_cluster": ("dask_databricks",),
    "dask_gateway_local": ("dask_gateway", "dask_gateway_server", "aiohttp"),
    "dask_glm_models": ("dask_glm",),
    "dask_image_filters": ("dask_image",),
    "dask_jobqueue_local": ("dask_jobqueue", "tornado"),
    "dask_kubernetes_operator": ("dask_kubernetes", "aiohttp"),
    "dask_labextension_manager": ("dask_labextension",),
    "dask_memusage_plugin": ("dask_memusage",),
    "dask_ml_models": ("dask_ml",),
    "dask_mpi_job": ("dask_mpi", "mpi4py"),
    "featuretools_features": ("featuretools",),
    "fugue_transform": ("fugue",),
    "ipyparallel_become_dask": ("ipyparallel",),
    "jupyter_server_dashboard": ("jupyter_server_proxy", "dask_labextension", "aiohttp"),
    "joblib_scikit_learn": ("joblib", "sklearn"),
    "lightgbm_dask": ("lightgbm", "sklearn"),
    "prefect_dask_flow": ("prefect", "prefect_dask"),
    "rechunker_arrays": ("rechunker", "zarr"),
    "stackstac_items": ("stackstac", "rasterio"),
    "streamz_dask": ("streamz",),
    "tpot_search": ("tpot",),
    "tsfresh_features": ("tsfresh",),
    "xarray_files": ("xarray", "scipy"),
    "xgboost_dask": ("xgboost",),
}


def test_every_example_is_run() -> None:
    assert {path.stem for path in (HERE / "examples").glob("*.py")} == set(EXAMPLES)


@pytest.mark.timeout(PATIENCE + 20)
@pytest.mark.parametrize("example", sorted(EXAMPLES))
def test_example(example: str, tmp_path: Path) -> None:
    absent = [module for module in EXAMPLES[example] if importlib.util.find_spec(module) is None]
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    environment = {
        **os.environ,
        "PYTHONPATH": str(SOURCES),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }
    done = subprocess.run(
        [sys.executable, str(HERE / "examples" / f"{example}.py")],
        cwd=tmp_path,
        env=environment,
        timeout=PATIENCE,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
