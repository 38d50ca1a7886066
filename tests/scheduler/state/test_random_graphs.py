"""Random graphs, failures, deaths, releases and cancellations: nothing gets stuck, and nothing is left behind."""

from __future__ import annotations

import random

import pytest

from headrace.messages.base import TaskOptions
from tests.scheduler.state.drive import Cluster


@pytest.mark.parametrize("seed", range(150))
def test_all_work_ends_and_is_forgotten(seed: int) -> None:
    chance = random.Random(seed)
    cluster = Cluster(workers=chance.randint(1, 4), nthreads=chance.randint(1, 2))
    clients = [cluster.add_client(f"client-{number}") for number in range(chance.randint(1, 2))]
    wanted: dict[str, set[str]] = {client.client_key: set() for client in clients}
    known: list[str] = []
    spawned = 0
    for step in range(chance.randint(20, 150)):
        action = chance.random()
        client = chance.choice(clients)
        mine = wanted[client.client_key]
        if action < 0.15:
            graph: dict[str, list[str]] = {}
            usable = [key for key in mine if key in cluster.state.tasks]
            for number in range(chance.randint(1, 15)):
                pool = list(graph) + usable
                graph[f"f{chance.randint(0, 3)}-{step}-{number}"] = chance.sample(
                    pool, min(len(pool), chance.choice([0, 0, 1, 2, 3]))
                )
            chosen = [key for key in graph if chance.random() < 0.4] or [list(graph)[-1]]
            cluster.submit(client, graph, chosen, TaskOptions(retries=chance.choice([0, 0, 2])))
            mine.update(chosen)
            known += chosen
        elif action < 0.25 and mine:
            keys = chance.sample(sorted(mine), chance.randint(1, len(mine)))
            mine.difference_update(keys)
            cluster.release(client, keys)
        elif action < 0.28 and mine:
            cluster.cancel(client, [chance.choice(sorted(mine))])
        elif action < 0.31 and len(cluster.inbox) > 1:
            cluster.remove_worker(chance.choice(sorted(cluster.inbox)), expected=chance.random() < 0.5)
        elif action < 0.34:
            spawned += 1
            cluster.add_worker(f"tcp://new{spawned}:1", nthreads=2)
        elif action < 0.37 and mine:
            cluster.state.retry(sorted(mine), cluster.now)
            cluster.drain()
        elif cluster.inbox:
            cluster.run_one(chance.choice(sorted(cluster.inbox)), fail=chance.random() < 0.1, choose=chance)
    if not cluster.inbox:
        cluster.add_worker("tcp://last:1")
    cluster.run_all()
    for client in clients:
        heard = cluster.heard[client.client_key]
        for key in wanted[client.client_key]:
            assert heard.get(key) in ("finished", "error", "cancelled"), (key, cluster.state.story(key))
    for client in clients:
        cluster.state.remove_client(client.client_key, cluster.now)
    cluster.drain()
    cluster.run_all()
    state = cluster.state
    assert not state.tasks
    assert not state.tasks.groups
    assert not state.queued
    assert not state.unrunnable
    assert state.total_occupancy == 0
    for address in cluster.inbox:
        cluster.to_run(address)
        assert not cluster.held[address], "a worker was not told to drop what nobody wants"
