"""coffea: a processor that counts and fills histograms of a ROOT file, by its DaskExecutor."""

import awkward as ak
import numpy as np
import uproot
from coffea import processor
from coffea.nanoevents import BaseSchema
from dask.distributed import Client


class Counter(processor.ProcessorABC):
    def process(self, events):
        return {
            "events": len(events),
            "sum": float(ak.sum(events.x)),
            "entries": processor.value_accumulator(int, len(events)),
        }

    def postprocess(self, accumulator):
        return accumulator


if __name__ == "__main__":
    x = np.arange(10_000.0)
    with uproot.recreate("events.root") as file:
        file["Events"] = {"x": x}
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        for status in (False, True):
            run = processor.Runner(
                executor=processor.DaskExecutor(client=client, status=status, treereduction=2),
                schema=BaseSchema,
                chunksize=1000,
            )
            out = run({"data": {"files": {"events.root": "Events"}}}, Counter())
            assert out["events"] == 10_000
            assert out["sum"] == x.sum()
            assert out["entries"].value == 10_000
