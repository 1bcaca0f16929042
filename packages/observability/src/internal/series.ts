/**
 * The series of all consumers, made when somebody asks, from what their snapshots say: nothing is recorded here, and what is gone (a
 * partition, a consumer) is gone from the next answer.
 */
import { type Health, healthCodes } from "@concurrent-kafka/core/Health"
import type { Distribution, Outcome, PartitionSnapshot, Snapshot } from "@concurrent-kafka/core/Snapshot"
import * as Context from "effect/Context"
import * as Metric from "effect/Metric"
import {
  consumerFamilies,
  loopFamilies,
  type Measure,
  measureNames,
  messagingFamilies,
  partitionFamilies,
  topicFamilies
} from "./families.ts"
import type { Delays } from "./loopMonitor.ts"

/** Of how many partitions and topics a consumer has series at most. */
export interface Bounds {
  readonly partitions: number
  readonly topics: number
}

/** what no topic can be called */
const allTopics = "*"

type Labels = Readonly<Record<string, string>>

const nothing = (): void => undefined

/** Series in a registry of their own. */
class Series {
  readonly registry: Metric.MetricRegistry = new Map()
  private readonly context: Context.Context<never>

  constructor(context: Context.Context<never>) {
    this.context = Context.add(context, Metric.MetricRegistry, this.registry)
  }

  private add<Input, State>(metric: Metric.Metric<Input, State>, labels: Labels, state: State): void {
    Metric.registerUnsafe(Metric.withAttributes(metric, labels), this.context, {
      get: () => state,
      update: nothing,
      modify: nothing
    })
  }
  counter(metric: Metric.Counter<number>, labels: Labels, count: number): void {
    this.add(metric, labels, { count, incremental: true })
  }
  gauge(metric: Metric.Gauge<number>, labels: Labels, value: number): void {
    this.add(metric, labels, { value })
  }
  /** `unit`: how much of what was counted is one of the metric's */
  histogram(
    metric: Metric.Histogram<number>,
    labels: Labels,
    { bounds, counts, sum }: Distribution,
    unit: number
  ): void {
    let count = 0
    const buckets = bounds.map((bound, i): [number, number] => [bound / unit, (count += counts[i]!)])
    count += counts[bounds.length]!
    // the least and the greatest are not kept, and not printed
    this.add(metric, labels, { buckets, count, min: Number.NaN, max: Number.NaN, sum: sum / unit })
  }
}

const millisPerSecond = 1_000
const statuses: Readonly<Record<Health["status"], number>> = { ok: 0, degraded: 1, down: 2 }
const outcomeLabels: Readonly<Record<Outcome, string>> = {
  handled: "handled",
  skipped: "skipped",
  deadLettered: "dead_lettered",
  filtered: "filtered",
  alreadyDone: "already_done"
}

const consumerSeries = (
  series: Series,
  snapshot: Snapshot,
  partitions: ReadonlyArray<PartitionSnapshot>,
  labels: Labels
): void => {
  const f = consumerFamilies
  const { commits, health, held, permits } = snapshot
  const sum = (of: (p: PartitionSnapshot) => number): number => partitions.reduce((n, p) => n + of(p), 0)
  for (const [outcome, label] of Object.entries(outcomeLabels) as Array<[Outcome, string]>) {
    series.counter(f.records, { ...labels, outcome: label }, snapshot.outcomes[outcome])
  }
  series.counter(f.attempts, labels, snapshot.attempts)
  series.counter(f.retries, labels, snapshot.retries)
  series.counter(f.interrupted, labels, snapshot.interrupted)
  series.counter(f.fenced, labels, snapshot.fenced)
  series.counter(f.released, labels, snapshot.released)
  series.counter(f.lostToRetention, labels, Number(snapshot.lostToRetention))
  series.counter(f.unexpected, labels, snapshot.unexpectedTransitions)
  series.counter(f.commits, { ...labels, result: "ok" }, commits.ok)
  series.counter(f.commits, { ...labels, result: "failed" }, commits.failed)
  for (const [result, count] of Object.entries(commits.entries)) {
    series.counter(f.commitEntries, { ...labels, result }, count)
  }
  for (const [kind, count] of Object.entries(snapshot.rebalanceCounts)) {
    series.counter(f.rebalances, { ...labels, kind }, count)
  }
  series.gauge(
    f.inFlight,
    labels,
    sum(({ running, sending }) => running + sending)
  )
  series.gauge(
    f.buffered,
    labels,
    sum(({ buffered }) => buffered)
  )
  series.gauge(
    f.waiting,
    labels,
    sum(({ waiting }) => waiting)
  )
  series.gauge(
    f.parked,
    labels,
    sum(({ parked }) => parked)
  )
  series.gauge(
    f.sending,
    labels,
    sum(({ sending }) => sending)
  )
  series.gauge(f.zombies, labels, permits.byZombies)
  series.gauge(f.permits, labels, permits.limit === "unbounded" ? Number.POSITIVE_INFINITY : permits.limit)
  series.gauge(f.permitsUsed, labels, permits.used)
  series.gauge(f.held, labels, held.records)
  series.gauge(f.heldLimit, labels, held.maxRecords)
  series.gauge(f.heldBytes, labels, held.bytes)
  series.gauge(f.heldBytesLimit, labels, held.maxBytes)
  series.gauge(f.partitions, labels, partitions.length)
  series.gauge(
    f.unpausedLag,
    labels,
    sum((p) => (p.paused.includes("user") ? 0 : (measured(p, "prefixLag") ?? 0)))
  )
  if (commits.lastAt !== undefined) series.gauge(f.lastCommit, labels, commits.lastAt / millisPerSecond)
  series.gauge(f.live, labels, Number(health.live))
  series.gauge(f.ready, labels, Number(health.ready))
  series.gauge(f.status, labels, statuses[health.status])
  const given = new Set(health.reasons.map(({ code }) => code))
  for (const code of healthCodes) series.gauge(f.reason, { ...labels, code }, Number(given.has(code)))
  series.histogram(f.waitTime, labels, snapshot.waitTime.all, millisPerSecond)
  series.histogram(f.commitSize, labels, commits.size, 1)
  series.histogram(f.revokeTime, labels, snapshot.revokeTime, millisPerSecond)
}

const messagingSeries = (series: Series, snapshot: Snapshot): void => {
  const f = messagingFamilies
  const labels = {
    consumer: snapshot.name,
    messaging_system: "kafka",
    messaging_consumer_group_name: snapshot.groupId
  }
  const processing = { ...labels, messaging_operation_name: "process", messaging_operation_type: "process" }
  const committing = { ...labels, messaging_operation_name: "commit", messaging_operation_type: "settle" }
  series.counter(f.consumed, processing, snapshot.attempts - snapshot.retries)
  series.histogram(f.handlerTime, processing, snapshot.handlerTime.all, millisPerSecond)
  series.histogram(f.handlerTime, { ...processing, error_type: "_OTHER" }, snapshot.failedTime, millisPerSecond)
  series.histogram(f.commitTime, committing, snapshot.commits.time, millisPerSecond)
}

/** undefined: not known yet */
const measured = (p: PartitionSnapshot, measure: Measure): number | undefined => {
  switch (measure) {
    case "lag":
      return p.end === undefined ? undefined : distance(p.committed ?? p.committable, p.end)
    case "prefixLag":
      return p.end === undefined ? undefined : distance(p.committable, p.end)
    case "uncommitted":
      return distance(p.committable, p.delivered)
    case "gaps":
      return p.gaps
    case "mapBytes":
      return p.mapBytes
    case "held":
      return p.heldRecords
  }
}

/** the end is as of the newest chunk, and what is committed may be newer */
const distance = (from: bigint, to: bigint): number => (to > from ? Number(to - from) : 0)

const topicSeries = (
  series: Series,
  partitions: ReadonlyArray<PartitionSnapshot>,
  labels: Labels,
  mostTopics: number
): void => {
  const together = new Set(partitions.map(({ topic }) => topic)).size > mostTopics
  for (const measure of measureNames) {
    const topics = new Map<string, { sum: number; worst: number; where: number }>()
    for (const p of partitions) {
      const value = measured(p, measure)
      if (value === undefined) continue
      const name = together ? allTopics : p.topic
      const topic = topics.get(name)
      if (topic === undefined) {
        topics.set(name, { sum: value, worst: value, where: p.partition })
        continue
      }
      topic.sum += value
      if (value <= topic.worst) continue
      topic.worst = value
      topic.where = p.partition
    }
    for (const [topic, { sum, where, worst }] of topics) {
      series.gauge(topicFamilies.sum[measure], { ...labels, topic }, sum)
      series.gauge(topicFamilies.worst[measure], { ...labels, topic }, worst)
      // the number of a partition says nothing without its topic
      if (!together) series.gauge(topicFamilies.where[measure], { ...labels, topic }, where)
    }
  }
}

const partitionSeries = (series: Series, partitions: ReadonlyArray<PartitionSnapshot>, labels: Labels): void => {
  for (const p of partitions) {
    for (const measure of measureNames) {
      const value = measured(p, measure)
      if (value === undefined) continue
      series.gauge(partitionFamilies[measure], { ...labels, topic: p.topic, partition: String(p.partition) }, value)
    }
  }
}

/** Each partition once: while one moves between two members of a consumer both may show it. */
export const once = (partitions: ReadonlyArray<PartitionSnapshot>): ReadonlyArray<PartitionSnapshot> => {
  const newest = new Map<string, PartitionSnapshot>()
  for (const p of partitions) {
    const key = `${p.topic}/${p.partition}`
    const other = newest.get(key)
    if (other === undefined || other.epoch < p.epoch) newest.set(key, p)
  }
  return [...newest.values()]
}

export const seriesOf = (
  snapshots: ReadonlyArray<Snapshot>,
  loop: Delays | undefined,
  most: Bounds,
  context: Context.Context<never>
): Metric.MetricRegistry => {
  const series = new Series(context)
  for (const snapshot of snapshots) {
    const labels = { consumer: snapshot.name, group: snapshot.groupId }
    const partitions = once(snapshot.partitions)
    consumerSeries(series, snapshot, partitions, labels)
    messagingSeries(series, snapshot)
    topicSeries(series, partitions, labels, most.topics)
    if (partitions.length <= most.partitions) partitionSeries(series, partitions, labels)
  }
  if (loop !== undefined) {
    for (const [name, family] of Object.entries(loopFamilies) as Array<[keyof Delays, Metric.Gauge<number>]>) {
      series.gauge(family, {}, loop[name] / millisPerSecond)
    }
  }
  return series.registry
}
