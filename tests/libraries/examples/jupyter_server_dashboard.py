"""Jupyter in front of a cluster: jupyter-server-proxy passes its pages and sockets on, dask-labextension finds it."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.parse

import aiohttp
from dask.distributed import Client, LocalCluster


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


async def until_it_answers(session, url):
    while True:
        try:
            async with session.get(url) as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.2)


async def look(base, cluster, client):
    dashboard = cluster.scheduler.services["dashboard"].port
    async with aiohttp.ClientSession() as session:
        await until_it_answers(session, f"{base}api/status")
        proxied = f"{base}proxy/{dashboard}"
        for path, expected in (
            ("/health", "ok"),
            ("/status", "<html"),
            ("/info/main/workers.html", "<html"),
            ("/metrics", "dask_scheduler_workers"),
            ("/json/counts.json", '"workers"'),
        ):
            async with session.get(f"{proxied}{path}") as answer:
                text = await answer.text()
                assert answer.status == 200, (path, answer.status, text)
                assert expected in text, path
        async with session.get(f"{base}proxy/{dashboard}/statics/nothing.css") as answer:
            assert answer.status == 404
        async with session.ws_connect(f"{proxied}/eventstream") as events:
            await events.send_str(json.dumps({"name": "ping"}))
            assert (await events.receive_json())["name"] == "pong"
            future = client.submit(sum, [1, 2])
            names = set()
            while "transition" not in names:
                names.add((await events.receive_json())["name"])
            assert future.result() == 3
        asked = urllib.parse.quote(cluster.dashboard_link.removesuffix("/status"), safe="")
        async with session.get(f"{base}dask/dashboard-check/{asked}") as answer:
            found = await answer.json(content_type=None)
            assert found["isActive"], found


def main():
    port = free_port()
    base = f"http://127.0.0.1:{port}/user/me/"  # as behind a JupyterHub
    with tempfile.TemporaryDirectory() as folder:
        jupyter = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", f"--port={port}"),
                *("--ip=127.0.0.1", "--IdentityProvider.token=", "--ServerApp.base_url=/user/me/"),
                f"--ServerApp.root_dir={folder}",
                *("--ServerApp.disable_check_xsrf=True",),
            ],
            env={**os.environ, "JUPYTER_RUNTIME_DIR": folder, "JUPYTER_DATA_DIR": folder, "JUPYTER_CONFIG_DIR": folder},
        )
        try:
            with (
                LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster,
                Client(cluster) as client,
            ):
                asyncio.run(asyncio.wait_for(look(base, cluster, client), 100))
        finally:
            jupyter.terminate()
            jupyter.wait(30)


if __name__ == "__main__":
    main()
