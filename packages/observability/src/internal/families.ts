/**
 * Every metric by its name, with what it says. The tables of this package's README are held against this file by a test.
 *
 * Names: base units (seconds, bytes), `_total` for what only rises. What OpenTelemetry's messaging conventions have a name for has that
 * name, as its Prometheus exporters write it.
 */
import * as Metric from "effect/Metric"

const prefix = "concurrent_kafka_"

const counter = (name: string, description: string): Metric.Counter<number> =>
  Metric.counter(`${prefix}${name}`, { description, incremental: true })

const gauge = (name: string, description: string): Metric.Gauge<number> =>
  Metric.gauge(`${prefix}${name}`, { description })

/** the boundaries come with the values, from the core */
const histogram = (name: string, description: string): Metric.Histogram<number> =>
  Metric.histogram(name, { description, boundaries: [] })

/** labels `consumer`, `group`, and where it says so another one */
export const consumerFamilies = {
  records: counter("records_total", "Records that are done, by outcome."),
  attempts: counter("attempts_total", "Handlers started."),
  retries: counter("retries_total", "Handlers started again for a record that had failed."),
  interrupted: counter("interrupted_attempts_total", "Handlers that this library interrupted."),
  fenced: counter("fenced_total", "Chunks, outcomes and answers dropped because their epoch had ended."),
  released: counter("released_records_total", "Records given up when their epoch ended; they are delivered again."),
  lostToRetention: counter("lost_to_retention_offsets_total", "Offsets that the broker deleted before they were read."),
  unexpected: counter("unexpected_transitions_total", "Events that the engine's state machines do not know."),
  commits: counter("commits_total", "Commit requests, by result: ok when every partition in it was stored."),
  commitEntries: counter("commit_entries_total", "Partitions in commit requests, by what became of them."),
  rebalances: counter("rebalances_total", "Rebalances as this consumer saw them, by kind."),
  inFlight: gauge("in_flight_records", "Records whose handler runs, or whose dead letter is being sent."),
  buffered: gauge("buffered_records", "Records fetched and not yet given to a handler."),
  waiting: gauge("waiting_retries", "Records that failed and wait for their retry."),
  parked: gauge("parked_records", "Records given up for this epoch."),
  sending: gauge("sending_dead_letters", "Dead letters on their way to their topic."),
  zombies: gauge("zombies", "Permits held by handlers that ignore their interruption."),
  permits: gauge("permits", "Handlers that may run at once; +Inf when unbounded."),
  permitsUsed: gauge("permits_used", "Permits in use, zombies included."),
  held: gauge("held_records", "Records in memory."),
  heldLimit: gauge("held_records_limit", "Records in memory at which fetching pauses."),
  heldBytes: gauge("held_bytes", "Bytes of key, value and headers in memory."),
  heldBytesLimit: gauge("held_bytes_limit", "Bytes in memory at which fetching pauses."),
  partitions: gauge("assigned_partitions", "Partitions that the consumer owns."),
  unpausedLag: gauge(
    "unpaused_lag_offsets",
    "Offsets from the done prefix to the end that a reader can see, of all owned partitions that nobody has paused."
  ),
  lastCommit: gauge("last_commit_timestamp_seconds", "When a commit was stored last."),
  live: gauge("live", "1 when the consumer is live, else 0."),
  ready: gauge("ready", "1 when the consumer is ready, else 0."),
  status: gauge("health_status", "0 ok, 1 degraded, 2 down."),
  reason: gauge("health_reason", "1 while health gives this reason, else 0."),
  waitTime: histogram(`${prefix}wait_duration_seconds`, "From a record's arrival to the start of its first attempt."),
  commitSize: histogram(`${prefix}commit_size_bytes`, "Bytes of commit requests, roughly."),
  revokeTime: histogram(`${prefix}revoke_duration_seconds`, "How long revokes were held for drain and flush.")
} as const

/** with OpenTelemetry's attributes as labels, and `consumer` */
export const messagingFamilies = {
  consumed: Metric.counter("messaging_client_consumed_messages_total", {
    description: "Records given to a handler, retries aside.",
    incremental: true
  }),
  handlerTime: histogram(
    "messaging_process_duration_seconds",
    "From the start of an attempt to its outcome; with error_type of those that failed."
  ),
  commitTime: histogram(
    "messaging_client_operation_duration_seconds",
    "How long commit requests took, with any answer."
  )
} as const

const measures = {
  lag: ["lag_offsets", "Offsets from what is committed to the end that a reader can see"],
  prefixLag: ["prefix_lag_offsets", "Offsets from the done prefix to the end that a reader can see"],
  uncommitted: ["uncommitted_offsets", "Offsets from the done prefix to the newest delivered one"],
  gaps: ["gaps", "Records that are not done while a later one is"],
  mapBytes: ["offset_map_bytes", "Bytes of the offset map"],
  held: ["held_records", "Records in memory"]
} as const

export type Measure = keyof typeof measures
export const measureNames = Object.keys(measures) as ReadonlyArray<Measure>

const each = (
  of: (name: string, text: string) => Metric.Gauge<number>
): Readonly<Record<Measure, Metric.Gauge<number>>> => ({
  lag: of(...measures.lag),
  prefixLag: of(...measures.prefixLag),
  uncommitted: of(...measures.uncommitted),
  gaps: of(...measures.gaps),
  mapBytes: of(...measures.mapBytes),
  held: of(...measures.held)
})

/** labels `consumer`, `group`, `topic`, `partition` */
export const partitionFamilies = each((name, text) => gauge(`partition_${name}`, `${text}, of a partition.`))

/** labels `consumer`, `group`, `topic` */
export const topicFamilies = {
  sum: each((name, text) => gauge(`topic_${name}`, `${text}, of all owned partitions of a topic together.`)),
  worst: each((name, text) =>
    gauge(`topic_worst_${name}`, `${text}, of the owned partition of a topic with the most.`)
  ),
  where: each((name) => gauge(`topic_worst_${name}_partition`, `The number of the partition of topic_worst_${name}.`))
} as const

const loop = (name: string, description: string): Metric.Gauge<number> =>
  Metric.gauge(`nodejs_eventloop_delay_${name}_seconds`, {
    description: `${description}, of the last half to whole minute.`
  })

export const loopFamilies = {
  p50: loop("p50", "Median of the event loop's delay"),
  p90: loop("p90", "90th percentile of the event loop's delay"),
  p99: loop("p99", "99th percentile of the event loop's delay"),
  mean: loop("mean", "Mean of the event loop's delay"),
  max: loop("max", "Longest standstill of the event loop")
} as const
