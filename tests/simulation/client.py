"""A client's shell in the simulation, and the user behind it, who does random things and checks every value.

It does what `headrace.client.link` and the methods of `Client` do, with the same messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headrace.client.state import ClientCore, FutureState
from headrace.messages.base import NO_OPTIONS, TaskOptions
from headrace.messages.client import CancelKeys, DesireKeys, ReleaseKeys, SubmitGraph

from .graphs import arguments_of, opened
from .network import Connection
from .scheduler import Welcome

if TYPE_CHECKING:
    from .world import World


class SimulatedClient:
    """A client and its user.

    Attributes:
        held: the futures that the user holds.
        may_be_cancelled: keys of which the scheduler may say that they are cancelled, or not known.
        groups: submissions with what they took for granted: without the latter, all of the former is cancelled.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.frozen_until = 0.0
        self.state = ClientCore()
        self.held: dict[str, FutureState] = {}
        self.may_be_cancelled: set[str] = set()
        self.groups: list[tuple[set[str], list[str]]] = []
        self.checked = 0
        self.gathered: set[str] = set()
        self._connection: Connection | None = None
        self._connecting = False
        self._outbox: list[Any] = []
        self._kept: list[Any] = []
        self._confirmed = 0
        self._barriers = 0
        self.scattering: set[str] = set()
        self._connections = 0

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @property
    def connected(self) -> bool:
        return self._connection is not None

    # the session

    def start(self) -> None:
        """Connect."""
        if self._connection is not None or self._connecting:
            return
        self._connecting = True

        def arrive() -> None:
            connection = self.world.scheduler.register_client(self)
            connection.to_far.on_batch = lambda batch: self._take(connection, batch)
            connection.to_far.on_close = lambda: self._scheduler_gone(connection)

        self.world.timeline.later(self.world.network.delay(0.001), arrive)

    def _take(self, connection: Connection, batch: list[Any]) -> None:
        if isinstance(batch[0], Welcome):
            self._connection = connection
            self._connecting = False
            self._resume(batch[0].received)
            batch = batch[1:]
        self.world.trace(self, "takes", batch)
        for message in batch:
            self.state.handle(message)
        self._confirm(self.state.received)
        if dropped := self.state.take_dropped():
            self.post(ReleaseKeys(dropped))
        self._notify()

    def _resume(self, received: int | None) -> None:
        """The connection is new: say again what has not come, and ask how all stands."""
        assert self._connection is not None
        if received is None:
            if self._kept:
                self.forgotten()
            self._confirmed = self.state.received = 0
        else:
            self._confirm(received)
        again = list(self._kept)
        self.state.cancellations_sent([*again, *self._outbox])
        if again:
            self._connection.to_near.send(again)
        self._flush()
        self._connections += 1
        keys = [key for key in self.state.lose_all() if key not in self.scattering]
        if keys:
            self.post(DesireKeys(keys))

    def _confirm(self, count: int) -> None:
        while self._confirmed < count and self._kept:
            del self._kept[0]
            self._confirmed += 1

    def _notify(self) -> None:
        for waiters, state in self.state.take_woken():
            for waiter in waiters:
                waiter(state)

    def break_connection(self) -> None:
        """The network fails."""
        if self._connection is not None and not self._connection.broken:
            draw = self.world.random.uniform
            self._connection.break_(draw(0, 1), draw(0, 1))

    def _scheduler_gone(self, connection: Connection) -> None:
        """The connection is lost: come back."""
        if self._connection is connection:
            self.world.trace(self, "loses the scheduler")
            self._connection = None
        self._connecting = False
        self.world.timeline.later(self.world.random.choice([0.0, 0.01, 1.0, 8.0]), self.start)

    def forgotten(self) -> None:
        """The scheduler has given this client up: what it holds, and whatever it submits on top, may be gone."""
        for key in self.held:
            self.may_be_cancelled |= self.world.universe.descendants(key)

    def post(self, message: Any) -> None:
        """Send, or keep for when there is a connection."""
        self._outbox.append(message)
        self._flush()

    def _flush(self) -> None:
        if self._connection is not None and self._outbox:
            outbox, self._outbox = self._outbox, []
            self._kept += outbox
            self._connection.to_near.send(outbox)

    # the user

    def act(self) -> None:
        """Do something at random."""
        random = self.world.random
        faults = self.world.faults
        actions: list[Callable[[], None]] = [self.submit, self.submit, self.submit, self.gather_some, self.gather_some]
        if "release" in faults:
            actions += [self.release, self.release]
        if "cancel" in faults:
            actions += [self.cancel]
        if "interrupt" in faults:
            actions += [self.interrupt, self.interrupt, self.interrupt]
        if "share" in faults:
            actions += [self.desire]
        if "retry" in faults:
            actions += [self.retry]
        if "forget" in faults:
            actions += [self.fire_and_forget]
        if self.world.universe.data:
            actions += [self.scatter, self.scatter_again]
        random.choice(actions)()

    def submit(self) -> None:
        """Submit some calls with what they need, in one message or several."""
        world, random = self.world, self.world.random
        calls = world.universe.calls
        keys = [key for key, call in calls.items() if call.kind != "data"]
        if not keys:
            return
        wanted = random.sample(keys, min(len(keys), random.choice([1, 1, 2, 5, 12])))
        have = {key for key, state in self.held.items() if state.status != "cancelled"}
        have = {key for key in have if calls[key].kind != "data" or self.held[key].status == "finished"}
        taken = {key for key in have if calls[key].kind == "data" or random.random() < 0.5}
        listed = [key for key in world.universe.closure(wanted, taken) if key in wanted or key not in taken]
        if any(calls[key].kind == "data" for key in listed):
            return  # it needs data that this client does not have
        new = set()
        for key in wanted:
            state, first = self.state.want(key)
            if first:
                new.add(key)
                self.held[key] = state
            else:
                state.references -= 1
        if not new:
            return
        listed = [key for key in world.universe.closure(list(new), taken) if key in new or key not in taken]
        for message in self._messages(listed, new):
            self.post(message)

    def _messages(self, listed: list[str], wanted: set[str]) -> list[SubmitGraph]:
        random = self.world.random
        calls = self.world.universe.calls
        graph = self.state.next_graph()
        parts = [listed]
        if len(listed) > 2 and random.random() < 0.3:
            cut = random.randint(1, len(listed) - 1)
            parts = [listed[:cut], listed[cut:]]
        messages = []
        for number, part in enumerate(parts):
            position = {key: place for place, key in enumerate(part)}
            external: list[str] = []
            rows = []
            for key in part:
                for needed in calls[key].dependencies:
                    if needed not in position:
                        position[needed] = len(part) + len(external)
                        external.append(needed)
                rows.append([position[needed] for needed in calls[key].dependencies])
            options: list[TaskOptions] = [NO_OPTIONS]
            options += [calls[key].options for key in part if calls[key].options is not NO_OPTIONS]
            messages.append(
                SubmitGraph(
                    graph,
                    [b"f", b"g"],
                    list(part),
                    [arguments_of(calls[key]) for key in part],
                    [place % 2 for place in range(len(part))],
                    rows if any(rows) else [],
                    external,
                    options=options,
                    option_of=[options.index(calls[key].options) for key in part],
                    wanted=[position[key] for key in part if key in wanted],
                    more=number < len(parts) - 1,
                )
            )
            if external:
                self.groups.append((set(part), external))
        return messages

    def _some_held(self) -> list[str]:
        random = self.world.random
        return random.sample(list(self.held), min(len(self.held), random.choice([1, 1, 2, 6])))

    def release(self) -> None:
        """Let some futures go."""
        self.release_keys(self._some_held())

    def release_keys(self, keys: list[str]) -> None:
        self.release_states([self.held.pop(key) for key in keys])

    def release_states(self, states: list[FutureState]) -> None:
        released = self.state.release(states)
        self._notify()
        if released:
            self.post(ReleaseKeys(released))

    def cancel(self) -> None:
        """Cancel some, perhaps for others as well."""
        self._cancel(self._some_held(), running=False)

    def interrupt(self) -> None:
        """Cancel some, even if they run, and perhaps want them again."""
        pending = [key for key, state in self.held.items() if state.status == "pending"]
        random = self.world.random
        if pending:
            self._cancel(random.sample(pending, min(len(pending), random.choice([1, 2, 5]))), running=True)
            if random.random() < 0.5:
                self.submit()

    def _cancel(self, keys: list[str], running: bool) -> None:
        world = self.world
        force = world.random.random() < 0.3
        for key in keys:
            (world.may_be_cancelled if force else self.may_be_cancelled).update(world.universe.descendants(key))
        held = self.state.cancel(keys, "the user cancelled it")
        for key in keys:
            del self.held[key]
        self._notify()
        if held:
            self.post(CancelKeys(held, force, "the user cancelled it", running))

    def desire(self) -> None:
        """Want what others have."""
        others = [client for client in self.world.clients if client is not self and client.held]
        if not others:
            return
        key = self.world.random.choice(list(self.world.random.choice(others).held))
        self.may_be_cancelled |= self.world.universe.descendants(key)
        state, first = self.state.want(key)
        if first:
            self.held[key] = state
            self.post(DesireKeys([key]))
        else:
            state.references -= 1

    def fire_and_forget(self) -> None:
        """Let the scheduler keep some until they are done."""
        keys = [key for key in self._some_held() if self.held[key].status == "pending"]
        if keys:
            self.post(DesireKeys(keys, until_done=True))

    def retry(self) -> None:
        """Have those that failed run again."""
        keys = [key for key, state in self.held.items() if state.status == "error"]
        if keys:
            ask = lambda: self.world.scheduler.retry(keys)  # noqa: E731
            self.world.network.request(self.name, "scheduler", ask, lambda _: None, lambda: None)

    # data

    def scatter(self) -> None:
        """Put data on some workers."""
        world = self.world
        mine = world.universe.data[world.clients.index(self) :: len(world.clients)]  # each client its own
        keys = [key for key in mine if key not in self.held and key not in self.scattering]
        if keys:
            self._scatter(world.random.choice(keys))

    def scatter_again(self) -> None:
        """Let data go, and put it on some workers at once."""
        keys = [
            key
            for key, state in self.held.items()
            if self.world.universe.calls[key].kind == "data" and state.status == "finished"
        ]
        if keys:
            key = self.world.random.choice(keys)
            self.release_keys([key])
            if key not in self.scattering and not self.state.futures.get(key):
                self._scatter(key)

    def _scatter(self, key: str) -> None:
        world = self.world
        workers = [worker.address for worker in world.scheduler.state.running]
        if not workers or not self.connected:
            return
        addresses = world.random.sample(workers, world.random.randint(1, min(2, len(workers))))
        state, _ = self.state.want(key)
        self.scattering.add(key)
        if "client-break" in world.faults:  # back again, it asks for it, perhaps before the scheduler has heard of it
            self.may_be_cancelled |= world.universe.descendants(key)
        ask = lambda: world.scheduler.state.begin_scatter([key], self.name, world.timeline.now)  # noqa: E731
        send = lambda number: self._send_data(key, addresses, state, number)  # noqa: E731
        world.network.request(self.name, "scheduler", ask, send, lambda: self._not_scattered(key, state))

    def _not_scattered(self, key: str, state: FutureState) -> None:
        self.scattering.discard(key)
        self._let_go(state)

    def _renew(self, state: FutureState) -> FutureState:
        state, again = self.state.renew(state)
        if again:
            self.post(DesireKeys([state.key]))
        return state

    def _let_go(self, state: FutureState) -> None:
        self.release_states([self._renew(state)])

    def _send_data(self, key: str, addresses: list[str], state: FutureState, number: int) -> None:
        connections = self._connections
        self._barriers += 1
        barrier, _ = self.state.want(f"barrier-{self.name}-{self._barriers}")
        waiting = [len(addresses) + 1]
        stored: list[str] = []

        def part_done(*_: Any) -> None:
            waiting[0] -= 1
            if not waiting[0]:
                self._announce(key, stored, state, (connections, number), whole=len(stored) == len(addresses))

        self.state.add_waiter(barrier, part_done)
        self.post(DesireKeys([barrier.key]))
        for address in addresses:
            self._store(key, address, stored, number, part_done)

    def _store(self, key: str, address: str, stored: list[str], number: int, done: Callable[[], None]) -> None:
        world = self.world

        def ask() -> None:
            world.reachable(address).update_data({key: world.universe.calls[key].value}, number)
            stored.append(address)  # also if the answer does not come: the user asks no worker twice

        world.network.request(self.name, address, ask, lambda _: done(), done)

    def _announce(
        self, key: str, addresses: list[str], state: FutureState, begun: tuple[int, int], whole: bool
    ) -> None:
        connections, number = begun

        def told(_: Any) -> None:
            self.scattering.discard(key)
            if key in self.held:
                self._let_go(state)  # others' data of this key came meanwhile
                return
            self.held[key] = renewed = self._renew(state)
            if connections != self._connections:
                self.post(DesireKeys([key]))
            if whole:
                self.state.finish(renewed, "int")
                self._notify()
            else:  # the user gets an exception
                self.release_keys([key])

        nbytes = {key: self.world.universe.calls[key].nbytes}
        ask = lambda: self.world.scheduler.add_data(self.name, {key: list(addresses)}, nbytes, number)  # noqa: E731
        self.world.network.request(self.name, "scheduler", ask, told, lambda: self._not_scattered(key, state))

    def gather_some(self) -> None:
        """Fetch a result and check it."""
        keys = [key for key, state in self.held.items() if state.status == "finished"]
        if keys:
            self.gather(self.world.random.choice(keys))

    def gather(self, key: str) -> None:
        """Fetch a result and check it; the scheduler is told of one that is not where it should be."""
        state = self.held[key]
        if state.result is not None:
            self.check(key, opened(state.result))
            return
        scheduler, network = self.world.scheduler, self.world.network

        def holders() -> list[str]:
            task = scheduler.state.tasks.get(key)
            return [] if task is None else sorted(worker.address for worker in task.who_has)

        def fetch(addresses: list[str]) -> None:
            if addresses:
                address = self.world.random.choice(addresses)
                read = lambda: self.world.reachable(address).data.get(key)  # noqa: E731
                network.request(self.name, address, read, lambda value: got(address, value), lambda: None)

        def got(address: str, value: int | None) -> None:
            if value is not None:
                self.check(key, value)
                self.gathered.add(key)
            else:
                scheduler.missing(key, address)

        network.request(self.name, "scheduler", holders, fetch, lambda: None)

    def check(self, key: str, value: int) -> None:
        """A value must be that of a serial run."""
        expected = self.world.universe.calls[key].value
        assert value == expected, f"{self}: {key} is {value}, and {expected} in a serial run"
        self.checked += 1
