"""headrace under the name that dask's users type: `from dask.distributed import Client`.

Nothing is defined here. Submodules are found by `headrace.alias`, which `import headrace` installs.
"""

__headrace__ = True  # before the import below: tells it that this package is its own

import sys

from headrace.alias import install, populate

install()
populate(sys.modules[__name__])

if "dask.config" in sys.modules:  # who asks dask for a default has imported both; dask is not imported for that here
    from headrace.config import register_defaults

    register_defaults()
