"""Progress, clusters and clients in a real Jupyter kernel: what a notebook shows, and where its widgets end."""

from __future__ import annotations

import pytest

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("ipywidgets")

from tests.notebooks.kernel import WIDGET_VIEW, Notebook, run

# The tasks wait for a later cell: what comes between two cells is no output of either, and is not kept.
PREPARE = """
import builtins, threading
from headrace import Client, LocalCluster, progress, wait
from headrace.testing.helpers.polling import poll_for

builtins.gate = threading.Event()

def double(x):
    builtins.gate.wait(30)
    return 2 * x

def fail(x):
    raise ValueError("<never>")

cluster = LocalCluster(n_workers=1, threads_per_worker=2, processes=False)
client = Client(cluster)
"""

FINISH = """
client.close()
cluster.close()
"""


@pytest.fixture(scope="module")
def notebook() -> Notebook:
    return run(
        PREPARE,
        "cluster",
        "client",
        "futures = client.map(double, range(20)) + [client.submit(fail, 1)]\nbar = progress(futures)\nbar",
        "single = progress(futures[:5], multi=False)\nsingle",
        "client.submit(abs, -1, key='abs-1')",
        "client.scheduler_info()",
        "gate.set()\nwait(futures)\npoll_for(lambda: bar.feed.end.done() and single.feed.end.done())",
        "shown = cluster._shown\n"
        "shown.workers.value = 2\nshown.scale.click()\ncluster.wait_for_workers(2, timeout=30)\n"
        "poll_for(lambda: '>2<' in shown.status.value)\nprint(len(cluster.workers))",
        "shown.minimum.value, shown.maximum.value = 1, 3\nshown.adapt.click()\n"
        "print(cluster._adaptive.minimum, cluster._adaptive.maximum, shown.message.value)",
        "shown.minimum.value, shown.maximum.value = 3, 1\nshown.adapt.click()\nprint(shown.message.value)",
        "shown.scale.click()\nprint(cluster._adaptive.state)",
        FINISH,
        "cluster",
    )


def test_progress_ends_with_all_that_was_done(notebook: Notebook) -> None:
    assert WIDGET_VIEW in notebook.data(3)
    value = notebook.widget(3)["value"]
    assert "<b>21</b> / 21 tasks" in value
    assert "double" in value
    assert "1 erred" in value
    assert "ValueError(&#x27;&lt;never&gt;&#x27;)" in value
    assert "done in" in value


def test_progress_of_one_bar_has_no_groups(notebook: Notebook) -> None:
    value = notebook.widget(4)["value"]
    assert "<b>5</b> / 5 tasks" in value
    assert "double" not in value


def test_a_cluster_is_shown_with_controls_and_as_html(notebook: Notebook) -> None:
    data = notebook.data(1)
    assert "LocalCluster" in data["text/plain"]
    assert "LocalCluster" in data["text/html"]
    box = notebook.widget(1)
    assert box["_model_name"] == "VBoxModel"
    assert len(box["children"]) == 4


def test_the_controls_scale(notebook: Notebook) -> None:
    assert notebook.cells[8][0]["text"] == "2\n"
    assert notebook.cells[9][0]["text"] == "1 3 adapts: 1 to 3 workers\n"
    assert "ValueError" in notebook.cells[10][0]["text"]
    assert notebook.cells[11][0]["text"] == "stopped\n", "a number of workers ends the adapting"


def test_the_clusters_widget_ends_closed(notebook: Notebook) -> None:
    assert "closed" in notebook.child(notebook.widget(1), 0)["value"]
    data = notebook.data(13)
    assert WIDGET_VIEW not in data
    assert "closed" in data["text/html"]


@pytest.mark.parametrize(("cell", "words"), [(2, "Client"), (5, "Future: abs"), (6, "Scheduler")])
def test_things_are_shown_as_text_and_html(notebook: Notebook, cell: int, words: str) -> None:
    data = notebook.data(cell)
    assert data["text/plain"]
    assert words in data["text/html"]


def test_without_ipywidgets_it_is_plain_html_that_is_kept_up_to_date() -> None:
    notebook = run(
        "import sys\nsys.modules['ipywidgets'] = None\n" + PREPARE,
        "futures = client.map(double, range(20))\nbar = progress(futures)\nbar",
        "gate.set()\nwait(futures)\npoll_for(lambda: bar.feed.end.done())",
        "cluster",
        "progress(client.map(double, range(5), pure=False), notebook=False)",
        FINISH,
    )
    html = notebook.data(1)["text/html"]
    assert "<b>20</b> / 20 tasks" in html
    assert "pip install ipywidgets" in html
    assert list(notebook.data(3)) == ["text/plain", "text/html"]
    assert not notebook.widgets
    assert "5/5" in notebook.cells[4][0]["text"], "lines instead of HTML block the cell until all is done"


def test_an_asynchronous_client_is_shown_as_well() -> None:
    notebook = run(
        "from headrace import Client, progress, wait\n"
        "client = await Client(n_workers=1, threads_per_worker=1, processes=False, asynchronous=True)",
        "client",
        "client.cluster",
        "import builtins, threading\nbuiltins.gate = threading.Event()\n"
        "futures = client.map(lambda x: builtins.gate.wait(30), range(7))\nbar = progress(futures)\nbar",
        "gate.set()\nawait bar.listen()\nNone",
        "await client.close()",
    )
    assert "processes=1 threads=1" in notebook.data(1)["text/plain"]
    assert WIDGET_VIEW in notebook.data(2)
    assert "<b>7</b> / 7 tasks" in notebook.widget(3)["value"]
