"""A confluent-kafka client for the interop suite.

confluent.py produce BOOTSTRAP TOPIC                  records on standard input
confluent.py consume BOOTSTRAP GROUP COUNT TOPIC...   records on standard output
"""

import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer

import records


def produce(bootstrap, topic):
    failures = []

    def delivered(error, _message):
        if error is not None:
            failures.append(error)

    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for key, value, headers in records.read():
        producer.produce(topic, key=key, value=value, headers=headers, on_delivery=delivered)
    if producer.flush(30) > 0 or failures:
        sys.exit(f"not delivered: {failures}")


def consume(bootstrap, group, count, *topics):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest"})
    consumer.subscribe(list(topics))
    seen, deadline = 0, time.monotonic() + 60
    while seen < int(count):
        if time.monotonic() > deadline:
            sys.exit(f"only {seen} of {count} records")
        message = consumer.poll(1.0)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        records.write(message.topic(), message.key(), message.value(), message.headers())
        seen += 1
    consumer.commit(asynchronous=False)
    consumer.close()


{"produce": produce, "consume": consume}[sys.argv[1]](*sys.argv[2:])
