import java.time.Duration;
import java.time.LocalDateTime;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** A service as teams write it: publishes orders over a minute and a half, and handles them in a group meanwhile. */
public class Service {
    static final String BROKERS = System.getenv("KAFKA_BOOTSTRAP_SERVERS");
    static final int ORDERS = 1000;
    static final Set<Integer> HANDLED = ConcurrentHashMap.newKeySet();
    static volatile boolean stop = false;

    public static void main(String[] arguments) throws Exception {
        long began = System.nanoTime();
        AtomicInteger delivered = new AtomicInteger();
        Thread handler = new Thread(Service::handle);
        handler.start();
        Map<String, Object> config = Map.of("bootstrap.servers", BROKERS, "enable.idempotence", "true");
        try (var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            for (int batch = 0; batch < 4; batch++) {
                for (int order = batch * ORDERS / 4; order < (batch + 1) * ORDERS / 4; order++) {
                    var record = new ProducerRecord<>("orders", "customer-" + order % 17, "" + order);
                    producer.send(record, (metadata, error) -> {
                        if (error == null) delivered.incrementAndGet();
                        else error.printStackTrace();
                    });
                }
                producer.flush();
                double elapsed = (System.nanoTime() - began) / 1e9;
                System.out.printf("%.6f s: %d delivered, %d handled%n", elapsed, delivered.get(), HANDLED.size());
                if (batch < 3) Thread.sleep(30_000);
            }
        }
        for (int wait = 0; wait < 2000 && HANDLED.size() < ORDERS; wait++) Thread.sleep(100);
        stop = true;
        handler.join();
        System.out.printf("%d delivered, %d handled, it is %s%n", delivered.get(), HANDLED.size(), LocalDateTime.now());
    }

    static void handle() {
        Map<String, Object> config = Map.of(
            "bootstrap.servers", BROKERS, "group.id", "billing", "auto.offset.reset", "earliest",
            "session.timeout.ms", "10000", "heartbeat.interval.ms", "2000");
        try (var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of("orders"));
            while (!stop) {
                for (var record : consumer.poll(Duration.ofMillis(500))) HANDLED.add(Integer.parseInt(record.value()));
            }
        }
    }
}
