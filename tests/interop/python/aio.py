"""An aiokafka client for the interop suite.

aio.py produce BOOTSTRAP TOPIC                  records on standard input
aio.py consume BOOTSTRAP GROUP COUNT TOPIC...   records on standard output
"""

import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

import records


async def produce(bootstrap, topic):
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True)
    await producer.start()
    try:
        for key, value, headers in records.read():
            await producer.send_and_wait(topic, value=value, key=key, headers=headers)
    finally:
        await producer.stop()


async def consume(bootstrap, group, count, *topics):
    consumer = AIOKafkaConsumer(
        *topics, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        for _ in range(int(count)):
            message = await consumer.getone()
            records.write(message.topic, message.key, message.value, message.headers)
        await consumer.commit()
    finally:
        await consumer.stop()


async def main():
    verb = {"produce": produce, "consume": consume}[sys.argv[1]]
    await asyncio.wait_for(verb(*sys.argv[2:]), 60)


asyncio.run(main())
