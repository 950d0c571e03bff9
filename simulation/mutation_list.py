"""The list of known bugs; see `mutations.py`."""

from simulation.mutations import Edit, Mutation

_RELAY = "service_kit.relay:Relay._relay_batch"
_PUBLISH = "service_kit.relay:Relay._publish"
_PROCESS = "service_kit.consumer:Consumer._process"
_WAVE = "service_kit.consumer:Consumer._handle_wave"
_CLAIM = "simulation.database.kit_statements:outbox_claim"
_DECIDE = "processor_service.application.process_orders:process_orders"
_RECORD = "simulation.database.processor_statements:decisions_record"

MUTATIONS = (
    Mutation(
        "no SKIP LOCKED: two relays take the same rows",
        22,
        [
            Edit(_CLAIM, "if work.free(row):", "if True:"),
            Edit(_CLAIM, "work.take(row)", "pass"),
        ],
    ),
    Mutation(
        "rows are removed before their confirm",
        0,
        [
            Edit(
                _RELAY,
                "published = await self._publish(claim.rows)",
                "await claim.settle(published=[row.id for row in claim.rows], rejected={})\n"
                "    published = await self._publish(claim.rows)\n"
                "    dead = 0\n"
                "    if False:",
            )
        ],
    ),
    Mutation(
        "rows are removed whatever the broker said",
        1,
        [Edit(_RELAY, "published=published.confirmed", "published=[row.id for row in claim.rows]")],
    ),
    Mutation(
        "a route without a queue counts as an attempt",
        1,
        [
            Edit(
                _PUBLISH,
                "self._closed.close(message.routing_key, outcome)",
                "published.rejected.update({row.id: outcome.value for row in contents})",
            )
        ],
    ),
    Mutation(
        "deliveries are acknowledged before the commit",
        0,
        [
            Edit(
                _PROCESS,
                "settlement = settlement or await self._handle_all(deliveries, received_at)",
                "await self._source.settle(deliveries, Settlement())\n"
                "            settlement = settlement or await self._handle_all(deliveries, received_at)",
            )
        ],
    ),
    Mutation(
        "deliveries are acknowledged before what failed is stored",
        0,
        [
            Edit(
                "service_kit.sources:BrokerSource.settle",
                "if settlement.postponed or settlement.dead:",
                "await self._subscription.acknowledge(deliveries[-1])\n"
                "    if settlement.postponed or settlement.dead:",
            )
        ],
    ),
    Mutation(
        "the inbox key is stored without the success",
        0,
        [
            Edit(
                "processor_service.infrastructure.decided_orders:PostgresDecidedOrders.record",
                "states = [answer.state for answer in decided.values()]",
                "from service_kit.testing.inbox import ACCEPT\n"
                "    async with self._database.connection() as connection:\n"
                "        fresh = await connection.fetch(ACCEPT, list(decided))\n"
                "    decided = {each['event_key']: decided[each['event_key']] for each in fresh}\n"
                "    states = [answer.state for answer in decided.values()]",
            ),
            Edit(_RECORD, "if key in accepted", "if True"),
        ],
    ),
    Mutation(
        "the key of a result whose order is unknown is stored",
        1,
        [
            Edit(
                "simulation.database.order_statements:orders_apply",
                "sorted(key for _, _, (_, key, *_) in seen)",
                "sorted(keys)",
            )
        ],
    ),
    Mutation(
        "the outbox is read by id > last seen",
        0,
        [
            Edit(
                _CLAIM,
                'values["due_at"] <= work.now',
                'values["id"] > getattr(tables, "last_seen", 0)\n'
                '            and values["due_at"] <= work.now',
            ),
            Edit(
                "simulation.database.kit_statements:outbox_remove",
                "return []",
                'tables.last_seen = max(getattr(tables, "last_seen", 0), *ids)\n    return []',
            ),
        ],
    ),
    Mutation(
        "no version guard on orders",
        1,
        [
            Edit(
                "simulation.database.order_statements:_may_finish",
                'return bool(values["status"] == "pending" and values["version"] < version)',
                "return True",
            )
        ],
    ),
    Mutation(
        "no version guard on decisions",
        3,
        [
            Edit(
                "simulation.database.processor_statements:_save",
                'if present is None or present["version"] < decided[1]:',
                "if True:",
            )
        ],
    ),
    Mutation(
        "an outage counts as an attempt", 0, [Edit(_WAVE, "except Unavailable:\n        raise\n    ", "")]
    ),
    Mutation(
        "an outage counts as handled",
        0,
        [Edit(_WAVE, "except Unavailable:\n        raise", "except Unavailable:\n        return")],
    ),
    Mutation(
        "mandatory is off",
        13,
        [
            Edit(
                "simulation.broker.server:BrokerServer._publish",
                "return PublishOutcome.UNROUTABLE",
                "return PublishOutcome.CONFIRMED",
            )
        ],
    ),
    Mutation(
        "intake looks first and inserts then",
        0,
        [
            Edit(
                "order_service.infrastructure.intake:PostgresIntake.insert_new",
                "orders = [command.order for command in commands]",
                "there = await self.find([command.order.order_id for command in commands])\n"
                "    commands = [c for c in commands if c.order.order_id not in there]\n"
                "    orders = [command.order for command in commands]",
            ),
            Edit(
                "simulation.database.order_statements:orders_insert_new",
                "row = yield from work.insert_new(tables.orders, ids[index])",
                "row, _ = yield from work.insert_or_lock(tables.orders, ids[index])",
            ),
        ],
    ),
    Mutation(
        "no reconciler",
        20,
        [
            Edit(
                "order_service.infrastructure.reconciler:Reconciler.run_once",
                "count = await reemit_pending(",
                "return await self.pause(self._interval_seconds)\n    count = await reemit_pending(",
            )
        ],
    ),
    Mutation(
        "a batch fails on its poison",
        10,
        [
            Edit(_WAVE, "if len(wave) > 1:", "if False:"),
            Edit(
                _WAVE,
                'settled = [(wave[0], RetryLater(reason=f"{type(error).__name__}: {error}"))]',
                'settled = [(item, RetryLater(reason=f"{type(error).__name__}: {error}")) for item in wave]',
            ),
        ],
    ),
    Mutation(
        "poison is dropped",
        0,
        [
            Edit(
                "service_kit.consumer:Consumer._bury",
                "settlement.dead.append(failed)",
                "pass",
            )
        ],
    ),
    Mutation(
        "draining drops the batch in hand",
        28,
        [
            Edit(
                _PROCESS,
                "if self.stopping or not self._source.holds(deliveries):",
                "if self.stopping:\n"
                "                return await self._source.settle(deliveries, Settlement())\n"
                "            if not self._source.holds(deliveries):",
            )
        ],
    ),
    Mutation(
        "only the first delivery of a batch is acknowledged",
        0,
        [
            Edit(
                "service_kit.sources:BrokerSource.settle",
                "await self._subscription.acknowledge(deliveries[-1])",
                "await self._subscription.acknowledge(deliveries[0])",
            )
        ],
    ),
    Mutation(
        "a decision that was not stored is sent",
        24,
        [Edit(_RECORD, "if order_id is None or order_id in saved:", "if True:")],
    ),
    Mutation(
        "a duplicate of a decided order is not answered",
        20,
        [Edit(_DECIDE, "orders.record(decided, repeated)", "orders.record(decided, [])")],
    ),
    Mutation(
        "a retry is ended before it is stored again",
        119,
        [
            Edit(
                "service_kit.postgres.failures:PostgresFailures.set_aside",
                "if postponed:",
                "pass\n    async with self._database.transaction() as connection:\n        if postponed:",
            )
        ],
    ),
    Mutation(
        "a repeated order is answered as new",
        0,
        [
            Edit(
                "order_service.application.create_orders:_compare",
                "Creation.REPLAYED if",
                "Creation.CREATED if",
            )
        ],
    ),
    Mutation(
        "decisions are given to their neighbours",
        0,
        [
            Edit(
                _DECIDE,
                "await policy.decide([item.order for item in fresh])",
                "reversed(await policy.decide([item.order for item in fresh]))",
            )
        ],
    ),
    Mutation(
        "an order is stored without its event",
        0,
        [
            Edit(
                "order_service.infrastructure.intake:PostgresIntake.insert_new",
                "[event.payload.decode() for event in events]",
                "[event.payload.decode() for event in reversed(events)]",
            )
        ],
    ),
    Mutation(
        "a decided order is cancelled",
        1,
        [
            Edit(
                "simulation.database.order_statements:_may_cancel",
                'return values is not None and values["status"] == "pending"',
                "return values is not None",
            )
        ],
    ),
    Mutation(
        "an order is cancelled without its event",
        1,
        [
            Edit(
                "order_service.application.cancel_order:cancel_order",
                "await uow.outbox.add_cancelled(cancelled, traceparent)",
                "pass",
            )
        ],
    ),
    Mutation(
        "a cancelled order is decided",
        1,
        [
            Edit(
                "simulation.database.order_statements:_may_finish",
                'values["status"] == "pending"',
                'values["status"] in ("pending", "cancelled")',
            ),
            Edit(
                "simulation.database.order_statements:_may_finish",
                'values["version"] < version',
                'values["version"] <= version',
            ),
        ],
    ),
    Mutation(
        "an event that needs no reader waits for one",
        1,
        [Edit("service_kit.announcing:Announcing._announced", "if unwanted", "if False")],
    ),
)
