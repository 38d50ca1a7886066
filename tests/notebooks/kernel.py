"""Runs cells in a real Jupyter kernel, of this Python, and keeps what they show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[2] / "src"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


class Notebook:
    """Cells that were run.

    Attributes:
        cells: the outputs of each, as the notebook format has them.
        widgets: {model id: state} as the front end has it at the end.
    """

    def __init__(self, cells: list[list[Any]], widgets: dict[str, dict[str, Any]]) -> None:
        self.cells = cells
        self.widgets = widgets

    def data(self, cell: int, output: int = -1) -> dict[str, Any]:
        """What a cell showed, by MIME type."""
        return dict(self.cells[cell][output]["data"])

    def widget(self, cell: int) -> dict[str, Any]:
        """The state at the end of the widget that a cell showed."""
        return self.widgets[self.data(cell)[WIDGET_VIEW]["model_id"]]

    def child(self, state: dict[str, Any], number: int) -> dict[str, Any]:
        """The state of a box's child."""
        return self.widgets[state["children"][number].removeprefix("IPY_MODEL_")]


def run(*sources: str) -> Notebook:
    """Run cells in a new kernel; raises `RuntimeError` with the output when one fails.

    From a process of its own: what the packages involved warn of among themselves is no failure of ours.
    """
    path = os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(sources),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
        timeout=100,
    )
    if done.returncode:
        raise RuntimeError(f"a cell failed:\n{done.stderr[-5000:]}")
    return Notebook(*json.loads(done.stdout))


def _main() -> None:
    import nbclient
    import nbformat
    from jupyter_client.manager import AsyncKernelManager

    cells = [nbformat.v4.new_code_cell(source) for source in json.load(sys.stdin)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    manager = AsyncKernelManager(kernel_name="python3")
    assert manager.kernel_spec is not None
    manager.kernel_spec.argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    runner = nbclient.NotebookClient(notebook, km=manager, timeout=60)
    runner.execute()
    json.dump([[cell["outputs"] for cell in cells], runner.widget_state], sys.stdout)


if __name__ == "__main__":
    _main()
