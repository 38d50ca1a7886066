"""Fugue's tutorial: a function on pandas frames, run on dask by giving the client as the engine."""

import fugue.api as fa
import pandas as pd
from dask.distributed import Client
from fugue import transform


def map_letter_to_food(df: pd.DataFrame, mapping: dict[str, str]) -> pd.DataFrame:
    df["value"] = df["value"].map(mapping)
    return df


if __name__ == "__main__":
    client = Client(n_workers=2, threads_per_worker=1, dashboard_address=None)
    input_df = pd.DataFrame({"id": [0, 1, 2], "value": ["A", "B", "C"]})
    mapping = {"A": "Apple", "B": "Banana", "C": "Carrot"}
    df = transform(input_df, map_letter_to_food, schema="*", params={"mapping": mapping}, engine=client)
    assert list(df.compute().value) == ["Apple", "Banana", "Carrot"]
    df = fa.transform(
        input_df, map_letter_to_food, schema="*", params={"mapping": mapping}, partition="id", engine="dask"
    )
    assert set(fa.as_pandas(df).value) == {"Apple", "Banana", "Carrot"}
    client.close()
