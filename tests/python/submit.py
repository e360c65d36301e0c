"""Submits ad-hoc work as any program might: with nats-py, knowing nothing of ecron but subjects and headers.

Arguments: NATS URL, then one JSON list of messages {subject, payload, headers}. Prints the server's answers as JSON.
"""

import asyncio
import json
import sys

import nats


async def main(url, messages):
    connection = await nats.connect(url)
    jetstream = connection.jetstream()
    answers = []
    for message in messages:
        payload = message["payload"].encode()
        ack = await jetstream.publish(message["subject"], payload, headers=message.get("headers"))
        answers.append({"stream": ack.stream, "sequence": ack.seq, "duplicate": bool(ack.duplicate)})
    await connection.close()
    print(json.dumps(answers))


asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
