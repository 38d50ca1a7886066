"""A stream whose elements are worked on by a cluster: scatter, map, accumulate, starmap, buffer, gather."""

import operator

from dask.distributed import Client
from streamz import Stream

if __name__ == "__main__":
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        source = Stream()
        squares = source.scatter().map(lambda x: x * x).buffer(8).gather().sink_to_list()
        sums = source.scatter().accumulate(operator.add).gather().sink_to_list()
        products = source.map(lambda x: (x, 2)).scatter().starmap(operator.mul).gather().sink_to_list()
        for number in range(10):
            source.emit(number)
        source.emit(10)
        assert sums[:4] == [0, 1, 3, 6]
        assert products[:4] == [0, 2, 4, 6]
        assert set(squares) <= {x * x for x in range(11)}
        assert squares == sorted(squares)
