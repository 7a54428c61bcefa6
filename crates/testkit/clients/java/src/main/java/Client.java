import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The Java client with its default settings on the command line; verbs and formats are those of ../README.md. */
public class Client {
    static final Duration PATIENCE = Duration.ofSeconds(60);

    public static void main(String[] args) throws Exception {
        try {
            run(args[0], args[1], Arrays.copyOfRange(args, 2, args.length));
        } catch (ExecutionException failure) {
            fail(failure.getCause());
        } catch (RuntimeException failure) {
            fail(failure);
        }
    }

    static void run(String bootstrap, String verb, String[] args) throws Exception {
        switch (verb) {
            case "produce" -> produce(bootstrap, args[0], Integer.parseInt(args[1]), args[2]);
            case "consume" -> consume(bootstrap, partition(args), Long.parseLong(args[2]), Integer.parseInt(args[3]));
            case "offsets" -> offsets(bootstrap, partition(args), Long.parseLong(args[2]));
            default -> {
                try (Admin admin = Admin.create(Map.<String, Object>of("bootstrap.servers", bootstrap))) {
                    administer(admin, verb, args);
                }
            }
        }
    }

    static void produce(String bootstrap, String topic, int partition, String codec) throws Exception {
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", bootstrap, "compression.type", codec,
            "max.request.size", 64 << 20, "buffer.memory", 128L << 20);
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                String[] fields = line.split("\t", -1);
                int index = sent.size();
                sent.add(producer.send(
                    new ProducerRecord<>(topic, partition, Long.parseLong(fields[0]), fromHex(fields[1]), fromHex(fields[2]), headers(fields[3])),
                    (metadata, error) -> {
                        if (error == null) {
                            System.out.println("ack " + index + " " + metadata.offset());
                        }
                    }));
            }
            producer.flush();
            for (Future<RecordMetadata> answer : sent) {
                answer.get();
            }
        }
    }

    static void consume(String bootstrap, TopicPartition partition, long from, int count) {
        try (var consumer = consumer(bootstrap)) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, from);
            long deadline = System.nanoTime() + PATIENCE.toNanos();
            int left = count;
            while (left > 0) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException(left + " records did not come");
                }
                for (var record : consumer.poll(Duration.ofSeconds(1))) {
                    if (left-- > 0) {
                        System.out.println(String.join("\t", "" + record.offset(), "" + record.timestamp(),
                            toHex(record.key()), toHex(record.value()), headers(record.headers())));
                    }
                }
            }
        }
    }

    static void offsets(String bootstrap, TopicPartition partition, long timestamp) {
        try (var consumer = consumer(bootstrap)) {
            System.out.println("earliest " + consumer.beginningOffsets(List.of(partition)).get(partition));
            System.out.println("latest " + consumer.endOffsets(List.of(partition)).get(partition));
            var found = consumer.offsetsForTimes(Map.of(partition, timestamp)).get(partition);
            System.out.println("timestamp " + (found == null ? -1 : found.offset()));
        }
    }

    static void administer(Admin admin, String verb, String[] args) throws Exception {
        switch (verb) {
            case "create" -> {
                var configs = new TreeMap<String, String>();
                for (String config : Arrays.copyOfRange(args, 2, args.length)) {
                    String[] parts = config.split("=", 2);
                    configs.put(parts[0], parts[1]);
                }
                var topic = new NewTopic(args[0], java.util.Optional.of(Integer.parseInt(args[1])), java.util.Optional.empty());
                admin.createTopics(List.of(topic.configs(configs))).all().get();
                System.out.println("created");
            }
            case "describe" -> {
                var description = admin.describeTopics(List.of(args[0])).allTopicNames().get().get(args[0]);
                for (var partition : description.partitions()) {
                    System.out.println("partition " + partition.partition() + " leader " + partition.leader().id()
                        + " replicas " + partition.replicas().size());
                }
            }
            case "configs" -> {
                var resource = new ConfigResource(ConfigResource.Type.TOPIC, args[0]);
                var config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
                config.entries().forEach(entry -> System.out.println(entry.name() + "=" + entry.value()));
            }
            case "grow" -> {
                admin.createPartitions(Map.of(args[0], NewPartitions.increaseTo(Integer.parseInt(args[1])))).all().get();
                System.out.println("grown");
            }
            case "delete" -> {
                admin.deleteTopics(List.of(args[0])).all().get();
                System.out.println("deleted");
            }
            case "list" -> new TreeSet<>(admin.listTopics().names().get()).forEach(System.out::println);
            default -> throw new IllegalArgumentException("no such verb: " + verb);
        }
    }

    static KafkaConsumer<byte[], byte[]> consumer(String bootstrap) {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "none");
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static TopicPartition partition(String[] args) {
        return new TopicPartition(args[0], Integer.parseInt(args[1]));
    }

    static List<Header> headers(String text) {
        List<Header> headers = new ArrayList<>();
        for (String header : text.split(",")) {
            if (!header.isEmpty()) {
                String[] parts = header.split(":", -1);
                headers.add(new RecordHeader(parts[0], fromHex(parts[1])));
            }
        }
        return headers;
    }

    static String headers(Iterable<Header> headers) {
        List<String> texts = new ArrayList<>();
        headers.forEach(header -> texts.add(header.key() + ":" + toHex(header.value())));
        return String.join(",", texts);
    }

    static byte[] fromHex(String text) {
        return text.equals("-") ? null : HexFormat.of().parseHex(text);
    }

    static String toHex(byte[] bytes) {
        return bytes == null ? "-" : HexFormat.of().formatHex(bytes);
    }

    static void fail(Throwable failure) {
        System.err.println("error " + failure.getClass().getSimpleName() + " " + failure.getMessage());
        System.exit(1);
    }
}
