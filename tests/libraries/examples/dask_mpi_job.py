"""dask-mpi: the ranks of an MPI job become scheduler, client and workers; also by the command `dask-mpi`."""

import os
import subprocess
import sys
import sysconfig

PROGRAM = """
from dask.distributed import Client
from dask_mpi import initialize
initialize(nthreads=1, dashboard=False)
with Client() as client:
    client.wait_for_workers(2, timeout=60)
    assert sum(client.gather(client.map(abs, range(-9, 1)))) == 45
print("done", flush=True)
"""

EXECUTE = """
from dask.distributed import Client
from dask_mpi import execute
def work():
    with Client() as client:
        client.wait_for_workers(2, timeout=60)
        assert client.submit(sum, [1, 2]).result() == 3
    print("done", flush=True)
execute(work, nthreads=1, dashboard=False)
"""

if __name__ == "__main__":
    mpiexec = os.path.join(sysconfig.get_path("scripts"), "mpiexec")
    for program in (PROGRAM, EXECUTE):
        done = subprocess.run(
            [mpiexec, "-n", "4", sys.executable, "-c", program],
            timeout=120,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert done.stdout.count("done") == 1, done.stdout
    command = subprocess.Popen(
        [mpiexec, "-n", "3", "dask-mpi", "--scheduler-file", "scheduler.json", "--nthreads", "1", "--no-dashboard"],
        env={**os.environ, "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])},
    )
    try:
        from dask.distributed import Client

        with Client(scheduler_file="scheduler.json") as client:
            client.wait_for_workers(2, timeout=60)
            assert client.submit(sum, [1, 2]).result() == 3
            client.shutdown()
        command.wait(60)
    finally:
        command.terminate()
        command.wait(60)
