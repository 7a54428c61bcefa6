"""librdkafka on the command line; verbs and formats are those of ../README.md."""

import signal
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

# Seconds after which an answer that did not come is an error.
PATIENCE = 60


def produce(bootstrap, topic, partition, codec):
    producer = Producer({
        "bootstrap.servers": bootstrap,
        "compression.type": codec,
        "enable.idempotence": True,
        "message.max.bytes": 64 << 20,
        "message.timeout.ms": PATIENCE * 1000,
        "linger.ms": 5,
    })
    failures = []

    def answered(index):
        def on_delivery(error, message):
            if error:
                failures.append(error)
            else:
                print("ack", index, message.offset(), flush=True)
        return on_delivery

    # Acknowledgements are printed as they come, also while no more records do.
    is_done = threading.Event()

    def serve():
        while not is_done.is_set():
            producer.poll(0.1)

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    for index, line in enumerate(sys.stdin):
        timestamp, key, value, headers = line.rstrip("\n").split("\t")
        while True:
            try:
                producer.produce(
                    topic,
                    partition=int(partition),
                    timestamp=int(timestamp),
                    key=from_hex(key),
                    value=from_hex(value),
                    headers=[(name, from_hex(hexed)) for name, hexed in split_headers(headers)] or None,
                    on_delivery=answered(index),
                )
                break
            except BufferError:
                time.sleep(0.1)
    is_done.set()
    server.join()
    if producer.flush(PATIENCE) or failures:
        raise KafkaException(failures[0] if failures else KafkaError(KafkaError._MSG_TIMED_OUT))


def consume(bootstrap, topic, partition, start, count):
    consumer = Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": "unused",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": False,
    })
    consumer.assign([TopicPartition(topic, int(partition), int(start))])
    left, deadline = int(count), time.monotonic() + PATIENCE
    while left and time.monotonic() < deadline:
        for message in consumer.consume(min(left, 1000), timeout=1):
            if message.error():
                raise KafkaException(message.error())
            headers = ",".join(f"{name}:{to_hex(value)}" for name, value in message.headers() or [])
            print(message.offset(), message.timestamp()[1], to_hex(message.key()), to_hex(message.value()), headers, sep="\t")
            left -= 1
    consumer.close()
    if left:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


def group(bootstrap, topic, name, strategy):
    config = {
        "bootstrap.servers": bootstrap,
        "group.id": name,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
    }
    if strategy == "consumer":
        config["group.protocol"] = "consumer"
    else:
        config.update({
            "partition.assignment.strategy": strategy,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500,
        })
    consumer = Consumer(config)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    next_offsets = {}

    def say(*words):
        print(time.time_ns() // 1000, *words, flush=True)

    def commit(partitions):
        positions = [TopicPartition(topic, p, next_offsets[p]) for p in partitions if p in next_offsets]
        if positions:
            for done in consumer.commit(offsets=positions, asynchronous=False):
                if not done.error:
                    say("committed", done.partition, done.offset)

    def on_assign(_, partitions):
        for partition in partitions:
            next_offsets.pop(partition.partition, None)
            say("own", partition.partition)

    def on_revoke(_, partitions):
        try:
            commit([partition.partition for partition in partitions])
        except KafkaException as failure:
            say("uncommitted", failure.args[0].name())
        on_lost(_, partitions)

    def on_lost(_, partitions):
        for partition in partitions:
            next_offsets.pop(partition.partition, None)
            say("lost", partition.partition)

    consumer.subscribe([topic], on_assign=on_assign, on_revoke=on_revoke, on_lost=on_lost)
    while not stopping.is_set():
        messages = consumer.consume(100, timeout=0.2)
        for message in messages:
            if message.error():
                say("error", message.error().name())
                continue
            say("got", message.partition(), message.offset())
            next_offsets[message.partition()] = message.offset() + 1
        try:
            commit({message.partition() for message in messages if not message.error()})
        except KafkaException as failure:
            say("uncommitted", failure.args[0].name())
    consumer.close()


def offsets(bootstrap, topic, partition, timestamp):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused"})
    earliest, latest = consumer.get_watermark_offsets(TopicPartition(topic, int(partition)), timeout=PATIENCE)
    print("earliest", earliest)
    print("latest", latest)
    [found] = consumer.offsets_for_times([TopicPartition(topic, int(partition), int(timestamp))], timeout=PATIENCE)
    if found.error:
        raise KafkaException(found.error)
    # librdkafka answers OFFSET_END (-1) when no record is that late.
    print("timestamp", found.offset)
    consumer.close()


def admin(bootstrap, call):
    """The results of one call of an AdminClient, which must live until they are there."""
    client = AdminClient({"bootstrap.servers": bootstrap})
    return [future.result(PATIENCE) for future in call(client).values()]


def create(bootstrap, topic, partitions, *configs):
    settings = dict(config.split("=", 1) for config in configs)
    admin(bootstrap, lambda client: client.create_topics([NewTopic(topic, int(partitions), config=settings)]))
    print("created")


def describe(bootstrap, topic):
    [found] = admin(bootstrap, lambda client: client.describe_topics(TopicCollection([topic])))
    for partition in found.partitions:
        print("partition", partition.id, "leader", partition.leader.id, "replicas", len(partition.replicas))


def configs(bootstrap, topic):
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    [found] = admin(bootstrap, lambda client: client.describe_configs([resource]))
    for name, entry in sorted(found.items()):
        print(f"{name}={entry.value}")


def grow(bootstrap, topic, partitions):
    admin(bootstrap, lambda client: client.create_partitions([NewPartitions(topic, int(partitions))]))
    print("grown")


def delete(bootstrap, topic):
    admin(bootstrap, lambda client: client.delete_topics([topic]))
    print("deleted")


def list_topics(bootstrap):
    for name in sorted(AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=PATIENCE).topics):
        print(name)


def from_hex(text):
    return None if text == "-" else bytes.fromhex(text)


def to_hex(value):
    return "-" if value is None else value.hex()


def split_headers(text):
    return [header.split(":") for header in text.split(",") if header]


VERBS = {
    "produce": produce, "consume": consume, "offsets": offsets, "create": create, "describe": describe,
    "configs": configs, "grow": grow, "delete": delete, "list": list_topics, "group": group,
}

if __name__ == "__main__":
    try:
        VERBS[sys.argv[2]](sys.argv[1], *sys.argv[3:])
    except KafkaException as failure:
        error = failure.args[0]
        print("error", error.name(), error.str(), file=sys.stderr)
        sys.exit(1)
