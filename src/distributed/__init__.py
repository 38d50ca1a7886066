"""headrace under the name that dask's users type: `from dask.distributed import Client`.

Nothing is defined here. Submodules are found by `headrace.alias`, which `import headrace` installs.
"""

__headrace__ = True  # before the import below: tells it that this package is its own

import sys

import headrace  # noqa: F401
from headrace.alias import Facade, install, populate

sys.modules[__name__].__class__ = Facade
install()
populate(globals())
