"""ipyparallel: engines that become workers, and a dask client that sees them."""

import ipyparallel as ipp

if __name__ == "__main__":
    with ipp.Cluster(n=2) as engines:
        client = engines.become_dask(nthreads=1)
        client.wait_for_workers(2, timeout=60)
        assert client.gather(client.map(abs, range(-4, 0))) == [4, 3, 2, 1]
        client.close()
        engines.stop_dask()
