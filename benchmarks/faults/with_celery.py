"""The adapter of Celery with Redis; runs in the benchmark's venv.

Pages named in comments are those of Celery's documentation.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import threading
import time
from typing import Any

import redis
from benchmarks.faults.client import Look, main
from benchmarks.faults.pace import LOOK, SLOTS, VISIBILITY
from benchmarks.faults.work import Order, carry_on, perform
from celery import Celery, chord

_META = "celery-task-meta-"

app = Celery("bench")
app.conf.update(
    # User guide, Optimizing, Reserve one task at a time: acknowledge late, prefetch one.
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    # User guide, Tasks: what is needed for a task whose process was killed to run again.
    task_reject_on_worker_lost=True,
    # Configuration: a redelivered message of a task that has succeeded is not run again.
    worker_deduplicate_successful_tasks=True,
    # Configuration: becomes the default in 6.0, as the behaviour without it "leads to more problems
    # than it solves".
    worker_cancel_long_running_tasks_on_connection_loss=True,
    # Configuration: try again to store a result when that fails in a way that may pass.
    result_backend_always_retry=True,
    # Redis, Caveats, Visibility timeout: all three must be set.
    visibility_timeout=VISIBILITY,
    result_backend_transport_options={"visibility_timeout": VISIBILITY},
    broker_transport_options={
        "visibility_timeout": VISIBILITY,
        # Kombu, Redis transport: to be lowered together with the visibility timeout; a throttle of
        # 1 makes the interval the only control (defaults: 10 s times 10).
        "unacked_restore_interval": int(LOOK),
        "unacked_restore_throttle": 1,
    },
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
)


@app.task(name="unit")
def unit_task(order: Order) -> str:
    """Do one unit."""
    return perform(order)


@app.task(name="then")
def then_task(token: str, order: Order) -> str:
    """Follow one unit."""
    return carry_on(order, token)


@app.task(name="follow")
def follow_task(results: list[str], order: Order) -> str:
    """Do the unit that follows others."""
    return perform(order)


def _connect(address: str) -> None:
    # Redis, Configuration: the form of a socket's address.
    url = f"redis+socket://{address}"
    app.conf.update(broker_url=url, result_backend=url)


class CeleryClient:
    """Sends tasks; listens to what the result backend publishes, and reads what Redis holds."""

    def __init__(self) -> None:
        self._accepted: dict[str, collections.Counter[str]] = collections.defaultdict(
            collections.Counter
        )
        self._heard: set[str] = set()

    def prepare(self, address: str) -> None:
        """Empty Redis."""
        _connect(address)
        with redis.Redis(unix_socket_path=address) as server:
            server.flushall()
        if address not in self._heard:
            self._heard.add(address)
            threading.Thread(target=self._listen, args=(address,), daemon=True).start()
            time.sleep(0.2)

    def submit(self, address: str, order: Order, lose: bool) -> None:
        """Send a message; the same unit again is the same task id, as a delivery twice would be."""
        _ping(address)
        # Lost: taken by the broker, then gone, as after a failover to a replica that had not got it
        # yet (Redis replicates asynchronously). "First steps": Redis "is more susceptible to data
        # loss in the event of abrupt termination or power failures"; nothing is advised against it.
        queue = "lost" if lose else "celery"
        # User guide, Canvas, Callbacks: what follows is linked, and is given the result.
        link = then_task.s(order)
        unit_task.apply_async((order,), task_id=order["unit"], queue=queue, link=link)
        if lose:
            with redis.Redis(unix_socket_path=address) as server:
                server.delete(queue)

    def fan_in(self, address: str, orders: list[Order], follow: Order) -> None:
        """Send a chord (User guide, Canvas, Chords)."""
        _ping(address)
        header = [unit_task.s(order).set(task_id=order["unit"]) for order in orders]
        chord(header)(follow_task.s(follow).set(task_id=follow["unit"]))

    def look(self, address: str, unit: str) -> Look:
        """Read the stored result, the queue and what is not acknowledged."""
        with redis.Redis(unix_socket_path=address, decode_responses=True) as server:
            meta: Any = server.get(_META + unit)
            waiting: Any = server.lrange("celery", 0, -1)
            unacked: Any = server.hvals("unacked")
        stored = json.loads(meta) if meta else {"status": "", "result": ""}
        succeeded = stored["status"] == "SUCCESS"
        heard = self._accepted[unit].total()
        return Look(
            accepted=max(heard, int(succeeded)),
            stored=stored["result"] if succeeded else "",
            open=not meta and any(f'"id": "{unit}"' in text for text in [*waiting, *unacked]),
            failed=stored["status"] in ("FAILURE", "REVOKED"),
        )

    def _listen(self, address: str) -> None:
        # Every result that is stored is also published, so a second one for a task is seen.
        while True:
            with contextlib.suppress(redis.RedisError):
                server = redis.Redis(unix_socket_path=address, decode_responses=True)
                heard = server.pubsub(ignore_subscribe_messages=True)
                heard.psubscribe(_META + "*")
                for message in heard.listen():
                    body = json.loads(message["data"])
                    if body["status"] == "SUCCESS":
                        self._accepted[body["task_id"]][body["result"]] += 1
            time.sleep(0.1)


def _ping(address: str) -> None:
    with redis.Redis(unix_socket_path=address) as server:
        server.ping()


def work(address: str, name: str) -> None:
    """Work until killed."""
    _connect(address)
    # It refuses to be root otherwise, should somebody run the benchmark so.
    os.environ.setdefault("C_FORCE_ROOT", "1")
    app.worker_main(
        ["worker", f"--concurrency={SLOTS}", f"--hostname={name}@bench", "--loglevel=WARNING"]
    )


if __name__ == "__main__":
    main(CeleryClient, work)
