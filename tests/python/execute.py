"""Executes a queue as any program might: with nats-py, knowing nothing of ecron but the names of stream and consumer.

Arguments: NATS URL, namespace, queue, how many messages to bring to an end. A payload {"do": "ack" | "nak" | "term"}
says what to do with its message: `nak` asks for it again two seconds later, once, and then acknowledges; anything else
is acknowledged. Prints every delivery as JSON.
"""

import asyncio
import json
import sys
import time

import nats

from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError

PATIENCE_S = 50
NAK_DELAY_S = 2

def wish(payload):
    try:
        return json.loads(payload)["do"]
    except (ValueError, KeyError, TypeError):
        return "ack"

async def main(url, namespace, queue, count):
    connection = await nats.connect(url)
    jetstream = connection.jetstream()
    durable = f"{namespace}_{queue}"
    try:
        await jetstream.consumer_info("ECRON_RUNS", durable)
    except NotFoundError:
        # Nobody has run anything on this queue yet: whoever comes first creates its consumer.
        subjects = [f"ecron.run.{namespace}.{queue}", f"ecron.submit.{namespace}.{queue}"]
        config = ConsumerConfig(
            durable_name=durable, filter_subjects=subjects, ack_policy=AckPolicy.EXPLICIT, ack_wait=30, max_deliver=-1
        )
        await jetstream.add_consumer("ECRON_RUNS", config)
    subscription = await jetstream.pull_subscribe_bind(durable, "ECRON_RUNS")
    deliveries = []
    ended = 0
    give_up_at = time.monotonic() + PATIENCE_S
    while ended < count and time.monotonic() < give_up_at:
        try:
            messages = await subscription.fetch(10, timeout=1)
        except asyncio.TimeoutError:
            continue
        for message in messages:
            delivered = message.metadata.num_delivered
            deliveries.append(
                {
                    "subject": message.subject,
                    "headers": dict(message.headers or {}),
                    "payload": message.data.decode(),
                    "delivered": delivered,
                    "atMs": time.time_ns() // 1_000_000,
                }
            )
            if wish(message.data) == "nak" and delivered == 1:
                await message.nak(delay=NAK_DELAY_S)
                continue
            if wish(message.data) == "term":
                await message.term()
            else:
                await message.ack_sync()
            ended += 1
    await connection.close()
    print(json.dumps(deliveries))

asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
