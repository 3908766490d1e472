"""The error of a call is kept, and a copy of it is raised: no cycles, and no traceback that grows."""

from __future__ import annotations

import asyncio
import gc
import threading
import traceback
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from support.faces import HereBroker, Stage, played
from support.harness import PATIENCE_S

from ringback import CallbackError, InvalidPayload, Server, aio
from ringback.errors import Code


class Mine:
    """A value of the function that makes a call. It lives as long as the frame of that function."""


@contextmanager
def uncollected() -> Iterator[list[Any]]:
    """Give a list for weak references. In the end all are dead, although no cycle was collected."""
    references: list[Any] = []
    gc.collect()
    gc.disable()
    try:
        yield references
        assert len(references) >= 1000
        # The worker or the loop may still hold the latest one.
        assert sum(reference() is not None for reference in references) <= 2
    finally:
        gc.enable()


@played
async def test_the_traceback_does_not_grow(stage: Stage) -> None:
    _, player = await stage.pair()
    call = player.trigger_server_callback("no such key")
    lengths = set()
    for _ in range(5):
        with pytest.raises(CallbackError) as caught:
            await stage.result(call)
        lengths.add(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(lengths) == 1
    assert call.error.code is Code.UNKNOWN_CALLBACK and call.error.__traceback__ is None


def test_a_blocking_call_that_failed_leaves_no_cycle(here: HereBroker) -> None:
    with Server(here.backend) as server, uncollected() as references:

        def fail(number: int) -> None:
            call = server.trigger_callback("no such key", 7, number)
            try:
                call.result()
            except CallbackError:
                references.append(weakref.ref(call._error))

        def fail_in_a_group() -> None:
            for call in server.trigger_all_client_callbacks("no such key", players=[7, 8]).all().values():
                try:
                    call.result()
                except CallbackError:
                    references.append(weakref.ref(call._error))

        for number in range(1000):
            fail(number)
        for _ in range(10):
            fail_in_a_group()


def test_an_asyncio_call_that_failed_leaves_no_cycle(here: HereBroker) -> None:
    async def scene() -> None:
        async with aio.Server(here.backend) as server:

            async def fail(number: int) -> None:
                call = server.trigger_callback("no such key", 7, number)
                try:
                    await call
                except CallbackError:
                    references.append(weakref.ref(call._error))

            with uncollected() as references:
                for number in range(1000):
                    await fail(number)

    asyncio.run(asyncio.wait_for(scene(), PATIENCE_S))


def test_a_blocking_call_that_cannot_be_encoded_leaves_no_cycle(here: HereBroker) -> None:
    with Server(here.backend) as server, uncollected() as references:

        def fail() -> None:
            mine = Mine()
            references.append(weakref.ref(mine))
            with suppress(InvalidPayload):
                server.trigger_callback("key", 7, {"a set": {1}}).result()

        for _ in range(1000):
            fail()


def test_an_asyncio_call_that_cannot_be_encoded_leaves_no_cycle(here: HereBroker) -> None:
    async def scene() -> None:
        async with aio.Server(here.backend) as server:

            async def fail() -> None:
                mine = Mine()
                references.append(weakref.ref(mine))
                with suppress(InvalidPayload):
                    await server.trigger_callback("key", 7, {"a set": {1}})

            with uncollected() as references:
                for _ in range(1000):
                    await fail()

    asyncio.run(asyncio.wait_for(scene(), PATIENCE_S))


def test_errors_raised_by_two_threads_do_not_mix(here: HereBroker) -> None:
    with Server(here.backend) as server:
        call = server.trigger_callback("no such key", 7)
        caught: list[CallbackError] = []

        def wait() -> None:
            try:
                call.result()
            except CallbackError as error:
                caught.append(error)

        threads = [threading.Thread(target=wait) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert len({id(error) for error in caught}) == 8
        assert {len(traceback.extract_tb(error.__traceback__)) for error in caught} == {3}
