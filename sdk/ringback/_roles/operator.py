"""What an operator can do: questions and orders to the broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from ringback._argument_names import checks_names
from ringback._roles.base import C, G
from ringback._roles.calls import CallBase
from ringback._roles.trigger_options import Callback, OnError
from ringback._roles.trusted import TrustedRole, time_left
from ringback._runtime import call_context
from ringback.core.registry import check_flag
from ringback.protocol.control import Order, Subject, What, check_subject
from ringback.protocol.envelopes import MAX_ID
from ringback.protocol.frames import FrameType
from ringback.protocol.limits import MAX_GRACE_S, MAX_REASON_CHARS
from ringback.protocol.names import check_node_name, check_pattern
from ringback.protocol.player_ids import PlayerID, check_player_id
from ringback.protocol.reports import MAX_WATCH_S

Rows = list[list[Any]]
"""What the broker answers to a query."""

Done = TypeVar("Done", bound=CallBase[None])
"""A call without a result."""

Page = TypeVar("Page", bound=CallBase[tuple[Rows, int | None]])
"""A call with rows, and the `after` of the next page."""

RealmPage = TypeVar("RealmPage", bound=CallBase[tuple[Rows, dict[str, int] | None, dict[str, str]]])
"""A call with rows of all nodes, the `after` of the next page, and the nodes that are missing."""


class OperatorRole(TrustedRole[C, G], Generic[C, G, Done, Page, RealmPage]):
    """The functions of an operator: a trusted program that is not the server."""

    _source_route = FrameType.RELAY

    @property
    def node(self) -> str | None:
        """The name of the broker in its realm; None: it is in no realm, or there is no link to it now."""
        return self._endpoint.node if self._shell.running else None

    @checks_names
    def query(
        self,
        subject: Subject | str,
        *,
        after: int = 0,
        node: str | None = None,
        player_id: PlayerID | None = None,
        timeout: float | None = 5.0,
    ) -> Page:
        """Ask the broker for a page of rows.

        Args:
            subject: "players", "callbacks", "counters", "events", "calls", "schemas", "failures", "latencies"
                or "nodes". Calls are the watched ones, see `watch`. docs/protocol.md lists the columns of
                each.
            after: 0 for the first page, then the second result of the call before.
            node: the name of a node of the broker's realm, which is asked then; None: the broker itself.
            player_id: of "players", the one whose row is wanted; None: all. An older broker sends all rows.
            timeout: in seconds; None for no limit.

        Returns:
            A call with two results: the rows, and the `after` of the next page. It is None on the last page.
            With `node`, it fails with `UnknownNode` if the broker has no link to that node, and with
            `CallTimeout` or `ConnectionLost` if the node does not answer.

        Raises:
            TypeError, ValueError: an argument has the wrong type or value.
            UsageError: this endpoint is not started, or closed.
        """
        self._check_running()
        subject, after, node = check_subject(subject), _check_after(after), _check_node(node)
        player_id = _check_one(player_id, subject)
        call: Page = self._call_to_broker(f"query {subject}", timeout)
        self._submit(self._endpoint.query, call, subject, after, node, player_id)
        return call

    @checks_names
    def query_realm(
        self,
        subject: Subject | str,
        *,
        after: Mapping[str, int] | None = None,
        player_id: PlayerID | None = None,
        timeout: float | None = 5.0,
    ) -> RealmPage:
        """Ask all nodes of the broker's realm for a page of rows. A broker alone is the one node.

        Args:
            subject: as for `query`.
            after: None for the first page, then the second result of the call before.
            player_id: as for `query`.
            timeout: in seconds; None for no limit. A node that does not answer within 2 s is missing.

        Returns:
            A call with three results. The first has the rows of all nodes. Each begins with the name of its
            node, None of a broker alone. The second is the `after` of the next page, None on the last
            page. The third is a dict of the nodes whose rows are missing, with the reason for each.

        Raises:
            TypeError, ValueError: an argument has the wrong type or value.
            UsageError: this endpoint is not started, or closed.
        """
        self._check_running()
        subject = check_subject(subject)
        player_id = _check_one(player_id, subject)
        if after is not None:
            if not isinstance(after, Mapping):
                raise TypeError(f"after must be a dict or None, not {type(after).__name__}")
            after = {name and check_node_name(name): _check_after(number) for name, number in after.items()}
        call: RealmPage = self._call_to_broker(f"query {subject} of the realm", timeout)
        self._submit(self._endpoint.query_realm, call, subject, after, self._ids, player_id)
        return call

    @checks_names
    def kick(
        self,
        player_id: PlayerID,
        reason: str = "",
        *,
        node: str | None = None,
        timeout: float | None = 5.0,
    ) -> Done:
        """Make the broker end the session of a player. The player does not connect again by itself.

        The player may start again. To keep it out, remove its public key from the access list.

        Args:
            player_id: the player.
            reason: for the player and the log, at most 200 characters. The rest is cut off.
            node: the name of the node that has the player; None: the broker itself looks for it.
            timeout: in seconds; None for no limit.

        Returns:
            A call without a result. It fails with `UnknownPlayer` if the player is not connected, and with
            `Forbidden` if the access list withholds orders from this operator.

        Raises:
            TypeError, ValueError: an argument has the wrong type or value.
            UsageError: this endpoint is not started, or closed.
        """
        self._check_running()
        if type(reason) is not str:
            raise TypeError(f"reason must be a str, not {type(reason).__name__}")
        reason = reason.encode(errors="replace").decode()[:MAX_REASON_CHARS]
        player_id = check_player_id(player_id)
        return self._order(What.KICK, timeout, node, player_id=player_id, reason=reason)

    @checks_names
    def drain(
        self, grace: float | None = None, *, node: str | None = None, timeout: float | None = 5.0
    ) -> Done:
        """Make the broker drain and stop, as SIGTERM does: nobody joins, and calls in flight may end.

        Args:
            grace: how long the calls may take, in seconds; None for the broker's setting.
            node: the name of the node of the realm that drains; None: the broker itself.
            timeout: in seconds; None for no limit.

        Returns:
            A call without a result. It ends when the broker begins to drain. It fails with `Forbidden` if
            the access list withholds orders from this operator.

        Raises:
            TypeError, ValueError: an argument has the wrong type or value.
            UsageError: this endpoint is not started, or closed.
        """
        self._check_running()
        if grace is None:
            return self._order(What.DRAIN, timeout, node)
        if type(grace) not in (int, float):
            raise TypeError(f"grace must be a number of seconds or None, not {type(grace).__name__}")
        if not 0 < grace <= MAX_GRACE_S:
            raise ValueError(f"grace must be above 0 and at most {MAX_GRACE_S} seconds, or None, not {grace}")
        return self._order(What.DRAIN, timeout, node, grace_ms=round(1000 * grace))

    @checks_names
    def hand_over(self, *, timeout: float | None = 5.0) -> Done:
        """Make the broker let the next server act, one that stands by. The present one finishes and leaves.

        Args:
            timeout: in seconds; None for no limit.

        Returns:
            A call without a result. It ends when the next server acts; the present one may still finish what
            it has begun. It fails with `NoServer` if no server stands by, or if the present one is too old to
            hand over, and with `Forbidden` if the access list withholds orders from this operator.

        Raises:
            TypeError, ValueError: the timeout has the wrong type or value.
            UsageError: this endpoint is not started, or closed.
        """
        self._check_running()
        return self._order(What.HAND_OVER, timeout)

    @checks_names
    def watch(
        self,
        player_id: PlayerID | None = None,
        key: str | None = None,
        *,
        payloads: bool = False,
        log: bool = False,
        for_s: float = 10.0,
        node: str | None = None,
        timeout: float | None = 5.0,
    ) -> Done:
        """Make the broker collect matching calls one by one, for `query("calls")`. It keeps the latest 1000.

        Args:
            player_id: match calls from and to this player; None for all players.
            key: match keys by this pattern, with *, ? and [...] as in a shell; None for all keys.
            payloads: whether to collect the payloads and results too, up to 4 KiB each.
            log: whether the broker also writes the calls to its log.
            for_s: how long to watch, in seconds, at most a day. 0 ends the watch.
            node: the name of the node that collects, for `query("calls", node=...)`; None: the broker itself.
                The server and operators report to the node that they are connected to.
            timeout: in seconds; None for no limit.

        Returns:
            A call without a result. It fails with `Forbidden` if the access list withholds orders from this
            operator, and with `Overloaded` if the limit of 16 watches is reached.

        Raises:
            TypeError, ValueError: an argument has the wrong type or value.
            UsageError: this endpoint is not started, or closed.
        """
        self._check_running()
        check_flag("payloads", payloads)
        check_flag("log", log)
        if type(for_s) not in (int, float) or not 0 <= for_s <= MAX_WATCH_S:
            raise ValueError(f"for_s must be from 0 to {MAX_WATCH_S} seconds, not {for_s!r}")
        return self._order(
            What.WATCH,
            timeout,
            node,
            player_id=None if player_id is None else check_player_id(player_id),
            key=None if key is None else check_pattern(key),
            payloads=payloads,
            log=log,
            for_ms=round(1000 * for_s),
        )

    @checks_names
    def ping(self, *, timeout: float | None = 5.0) -> Done:
        """Ask the broker for a sign of life.

        Args:
            timeout: in seconds; None for no limit.

        Returns:
            A call without a result. It ends when the broker has responded.

        Raises:
            TypeError, ValueError: the timeout has the wrong type or value.
            UsageError: this endpoint is not started, or closed.
        """
        self._check_running()
        call: Done = self._call_to_broker("ping", timeout)
        self._submit(self._endpoint.ping, call)
        return call

    def _order(self, what: What, timeout: float | None, node: str | None = None, **fields: Any) -> Done:
        node = _check_node(node)
        call: Done = self._call_to_broker(what.value, timeout)
        self._submit(self._endpoint.order, call, Order(call.id, what, node=node, **fields))
        return call

    def _call_to_broker(
        self,
        what: str,
        timeout: float | None,
        callback: Callback | None = None,
        on_error: OnError | None = None,
    ) -> Any:
        """Return the call that stands for a question or an order to the broker."""
        now = time.monotonic()
        deadline, _ = call_context.deadline_and_budget(timeout, now)
        call = self._call_class(next(self._ids), what, deadline, callback, on_error, now, self)
        if callback is not None:
            call._context = call_context.clean_context()
        return call

    def _list_players(
        self, then: Callable[[list[PlayerID]], None], failed: OnError, until: float | None
    ) -> None:
        found: dict[PlayerID, None] = {}  # one that goes to another node just now may be at both

        def ask(after: Mapping[str, int] | None) -> None:
            call = self._call_to_broker("query players of the realm", time_left(until), take, failed)
            self._submit(self._endpoint.query_realm, call, Subject.PLAYERS, after, self._ids)

        def take(rows: Rows, following: dict[str, int] | None, _missing: dict[str, str]) -> None:
            found.update((player_id, None) for _, player_id, *_ in rows)
            if following is None:
                then(list(found))
            else:
                ask(following)

        ask(None)


def _check_after(after: Any) -> int:
    if type(after) is not int:
        raise TypeError(f"after must be an int, not {type(after).__name__}")
    if not 0 <= after <= MAX_ID:
        raise ValueError(f"after must be from 0 to 2**64-1, not {after}")
    return after


def _check_node(node: Any) -> str | None:
    return None if node is None else check_node_name(node)


def _check_one(player_id: Any, subject: Subject) -> PlayerID | None:
    if player_id is None:
        return None
    if subject is not Subject.PLAYERS:
        raise ValueError(f"only a query of players may have a player_id, not one of {subject}")
    return check_player_id(player_id)
