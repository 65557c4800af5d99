"""A service as teams write it: publishes orders over a minute and a half, and handles them in a group meanwhile."""

import os
import threading
import time

from confluent_kafka import Consumer, Producer

BROKERS = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
ORDERS = 1000
began = time.monotonic()
delivered, handled, stop = [], set(), threading.Event()


def handle():
    consumer = Consumer({
        "bootstrap.servers": BROKERS,
        "group.id": "billing",
        "auto.offset.reset": "earliest",
        "session.timeout.ms": 10_000,
        "heartbeat.interval.ms": 2_000,
    })
    consumer.subscribe(["orders"])
    while not stop.is_set():
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            handled.add(int(message.value()))
    consumer.close()


def on_delivery(error, message):
    assert error is None, error
    delivered.append(message.value())


handler = threading.Thread(target=handle)
handler.start()
producer = Producer({"bootstrap.servers": BROKERS, "enable.idempotence": True})
for batch in range(4):
    for order in range(batch * ORDERS // 4, (batch + 1) * ORDERS // 4):
        producer.produce("orders", key=f"customer-{order % 17}", value=str(order), on_delivery=on_delivery)
        producer.poll(0)
    producer.flush()
    print(f"{time.monotonic() - began:.6f} s: {len(delivered)} delivered, {len(handled)} handled", flush=True)
    if batch < 3:
        time.sleep(30)
while len(handled) < ORDERS and time.monotonic() - began < 300:
    time.sleep(0.1)
stop.set()
handler.join()
print(f"{len(delivered)} delivered, {len(handled)} handled, it is {time.strftime('%F %T')}")
