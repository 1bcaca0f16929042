import io.confluent.parallelconsumer.PCRetriableException;
import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.CommitMode;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * A process that is a member of a group by the Java Parallel Consumer. It ends by SIGTERM, which closes the consumer without draining.
 *
 * <pre>
 * member BROKERS GROUP TOPIC FILE ORDERING CONCURRENCY TURN
 * commit BROKERS GROUP TOPIC [PARTITION OFFSET METADATA]...
 * </pre>
 *
 * The second form commits for a group without members, and ends.
 *
 * Everything that happens is one line of JSON in FILE, written at once: what a killed process has done is not lost. What a record's
 * handler does is said by the record's value: {@code quick} nothing, {@code N} it sleeps for so many milliseconds. Unless TURN is at
 * least N, {@code fail N} fails and is not tried again for an hour, and {@code until N} does not end before the process does.
 */
final class ParallelMember {
  private final FileOutputStream file;
  private final int turn;
  private final CountDownLatch ending = new CountDownLatch(1);

  private ParallelMember(String file, int turn) throws IOException {
    this.file = new FileOutputStream(file, true);
    this.turn = turn;
  }

  public static void main(String[] args) throws Exception {
    switch (args[0]) {
      case "member" -> new ParallelMember(args[4], Integer.parseInt(args[7])).join(args);
      case "commit" -> commit(args);
      default -> throw new IllegalArgumentException(args[0]);
    }
  }

  private static void commit(String[] args) throws Exception {
    Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
    for (int i = 4; i < args.length; i += 3) {
      TopicPartition partition = new TopicPartition(args[3], Integer.parseInt(args[i]));
      offsets.put(partition, new OffsetAndMetadata(Long.parseLong(args[i + 1]), args[i + 2]));
    }
    try (Admin admin = Admin.create(Map.<String, Object>of("bootstrap.servers", args[1]))) {
      admin.alterConsumerGroupOffsets(args[2], offsets).all().get();
    }
  }

  private void join(String[] args) throws IOException {
    KafkaConsumer<byte[], byte[]> client =
        new KafkaConsumer<>(
            Map.<String, Object>of(
                "bootstrap.servers", args[1],
                "group.id", args[2],
                "auto.offset.reset", "earliest",
                "enable.auto.commit", "false",
                "session.timeout.ms", "3000",
                "heartbeat.interval.ms", "500"),
            new ByteArrayDeserializer(),
            new ByteArrayDeserializer());
    ParallelStreamProcessor<byte[], byte[]> processor =
        ParallelStreamProcessor.createEosStreamProcessor(
            ParallelConsumerOptions.<byte[], byte[]>builder()
                .consumer(client)
                .ordering(ProcessingOrder.valueOf(args[5]))
                .maxConcurrency(Integer.parseInt(args[6]))
                // the asynchronous commits, which are the default, can pair a map with the offset of a later one
                .commitMode(CommitMode.PERIODIC_CONSUMER_SYNC)
                .commitInterval(Duration.ofMillis(100))
                .retryDelayProvider(context -> Duration.ofHours(1))
                .shutdownTimeout(Duration.ofSeconds(5))
                .build());
    processor.subscribe(List.of(args[3]));
    Runtime.getRuntime()
        .addShutdownHook(
            new Thread(
                () -> {
                  ending.countDown();
                  processor.close();
                }));
    processor.poll(context -> handle(context.getSingleConsumerRecord()));

    // nothing is written to it: it ends with the process that has started this one, and then nobody reads what is handled here
    while (System.in.read() >= 0) {}
    Runtime.getRuntime().halt(1);
  }

  private void handle(ConsumerRecord<byte[], byte[]> record) {
    String[] value = new String(record.value(), StandardCharsets.UTF_8).split(" ");
    boolean quick = value[0].equals("quick") || value.length > 1 && turn >= Integer.parseInt(value[1]);
    if (!quick) {
      say("started", record);
      try {
        if (value[0].equals("fail")) throw new PCRetriableException("as its value says");
        if (value[0].equals("until")) {
          ending.await();
          throw new PCRetriableException("the process ends");
        }
        Thread.sleep(Long.parseLong(value[0]));
      } catch (InterruptedException error) {
        throw new PCRetriableException(error);
      }
    }
    say("handled", record);
  }

  private synchronized void say(String event, ConsumerRecord<byte[], byte[]> record) {
    String line =
        String.format(
            "{\"event\":\"%s\",\"pid\":%d,\"partition\":%d,\"offset\":\"%d\",\"epoch\":0}%n",
            event, ProcessHandle.current().pid(), record.partition(), record.offset());
    try {
      file.write(line.getBytes(StandardCharsets.UTF_8));
    } catch (IOException error) {
      throw new IllegalStateException(error);
    }
  }
}
