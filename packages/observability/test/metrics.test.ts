import { FailurePolicy } from "@concurrent-kafka/core/FailurePolicy"
import type { PartitionSnapshot } from "@concurrent-kafka/core/Snapshot"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import { Boom, Desk, pass, type World, world } from "../../core/test/harness.ts"
import { Letters } from "../../core/test/letters.ts"
import { at, outcomes, scripted } from "../../core/test/script.ts"
import { type Bounds, seriesOf } from "../src/internal/series.ts"
import { Observability } from "../src/index.ts"
import { samplesOf, valueOf } from "./exposition.ts"
import { type Endpoints, endpoints } from "./http.ts"

const scrape = (http: Endpoints): Effect.Effect<string> =>
  Effect.map(http.get("/metrics"), ({ headers, status, text }) => {
    assert.strictEqual(status, 200)
    assert.strictEqual(headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8")
    return text
  })

const ours = "concurrent_kafka_"

/** a world with one member that the endpoints show */
const shown = (w: World, options: Parameters<World["member"]>[1] = {}, routes?: Parameters<typeof endpoints>[0]) =>
  Effect.gen(function* () {
    const http = yield* endpoints(routes)
    const member = yield* w.member("a", options)
    yield* http.registry.register(member.consumer)
    const value = (name: string, labels?: Readonly<Record<string, string>>) =>
      Effect.map(scrape(http), (text) => valueOf(text, name, labels))
    return { http, member, value }
  })

describe("metrics", () => {
  it.effect("I10: every record is under one outcome; attempts, retries, what is in flight and what is held", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 2 })
      w.expect("passedOver")
      const { http, member, value } = yield* shown(w, {
        concurrency: 3,
        policy: FailurePolicy.make(({ attempt }) =>
          attempt === 1 ? { _tag: "Retry", after: 1_000 } : { _tag: "Skip" }
        )
      })
      yield* w.produce(6, 0)
      yield* pass(1_000)
      yield* member.desk.end(0, 0, Exit.fail(new Boom()))
      yield* member.desk.finish(0, 1)
      const first = yield* scrape(http)
      const labels = { consumer: "g", group: "g" }
      const records = (text: string) =>
        Object.fromEntries(
          samplesOf(text)
            .filter(({ name }) => name === `${ours}records_total`)
            .map(({ labels, value }) => [labels["outcome"], value])
        )
      assert.deepStrictEqual(records(first), {
        handled: 1,
        skipped: 0,
        dead_lettered: 0,
        filtered: 0,
        already_done: 0
      })
      assert.strictEqual(valueOf(first, `${ours}attempts_total`, labels), 5)
      assert.strictEqual(valueOf(first, `${ours}in_flight_records`, labels), 3)
      assert.strictEqual(valueOf(first, `${ours}waiting_retries`, labels), 1)
      assert.strictEqual(valueOf(first, `${ours}buffered_records`, labels), 1)
      assert.strictEqual(valueOf(first, `${ours}held_records`, labels), 5)
      assert.isAbove(valueOf(first, `${ours}held_bytes`, labels)!, 5)
      assert.strictEqual(valueOf(first, `${ours}held_bytes_limit`, labels), 32 * 1024 * 1024)
      assert.strictEqual(valueOf(first, `${ours}permits`, labels), 3)
      assert.strictEqual(valueOf(first, `${ours}permits_used`, labels), 3)
      assert.strictEqual(valueOf(first, `${ours}health_reason`, { code: "retrying" }), 1)
      assert.strictEqual(valueOf(first, `${ours}health_reason`, { code: "stuck" }), 0)
      assert.strictEqual(valueOf(first, `${ours}health_status`), 1)
      yield* pass(1_000)
      yield* member.desk.finish(0, 2, 3, 4)
      yield* member.desk.finish(0, 5)
      yield* member.desk.end(0, 0, Exit.fail(new Boom()))
      yield* pass(20_000)
      const last = yield* scrape(http)
      assert.deepStrictEqual(records(last), {
        handled: 5,
        skipped: 1,
        dead_lettered: 0,
        filtered: 0,
        already_done: 0
      })
      assert.strictEqual(valueOf(last, `${ours}retries_total`), 1)
      assert.strictEqual(valueOf(last, "messaging_client_consumed_messages_total"), 6)
      assert.strictEqual(valueOf(last, `${ours}in_flight_records`), 0)
      assert.strictEqual(valueOf(last, `${ours}held_records`), 0)
      assert.strictEqual(yield* value(`${ours}held_bytes`), 0)
      assert.strictEqual(valueOf(last, `${ours}health_status`), 0)
    })
  )

  it.effect("durations are seconds in rising buckets, of attempts that succeeded and of those that failed", () =>
    Effect.gen(function* () {
      const w = yield* world()
      w.expect("passedOver")
      const { http, member } = yield* shown(w, { concurrency: 1, policy: FailurePolicy.skip })
      yield* w.produce(3)
      yield* pass(1_000)
      const waitedBefore = valueOf(yield* scrape(http), `${ours}wait_duration_seconds_sum`)!
      yield* pass(30)
      yield* member.desk.finish(0, 0)
      yield* pass(40)
      yield* member.desk.end(0, 1, Exit.fail(new Boom()))
      const text = yield* scrape(http)
      const name = "messaging_process_duration_seconds"
      const succeeded = {
        error_type: "",
        consumer: "g",
        messaging_system: "kafka",
        messaging_operation_name: "process"
      }
      const failed = { ...succeeded, error_type: "_OTHER" }
      const buckets = (labels: Readonly<Record<string, string>>) =>
        samplesOf(text)
          .filter((s) => s.name === `${name}_bucket` && (s.labels["error_type"] ?? "") === labels["error_type"])
          .map(({ labels, value }) => [Number(labels["le"]!.replace("+Inf", "Infinity")), value] as const)
      for (const labels of [succeeded, failed]) {
        assert.strictEqual(valueOf(text, `${name}_count`, labels), 1)
        const seconds = valueOf(text, `${name}_sum`, labels)!
        assert.isTrue(seconds < 2)
        for (const [bound, count] of buckets(labels)) assert.strictEqual(count, seconds <= bound ? 1 : 0, `${bound}`)
      }
      assert.closeTo(valueOf(text, `${name}_sum`, failed)!, 0.04, 1e-9)
      // the second waited for the first, and the third for both
      assert.strictEqual(valueOf(text, `${ours}wait_duration_seconds_count`), 3)
      assert.closeTo(
        valueOf(text, `${ours}wait_duration_seconds_sum`)! - waitedBefore,
        2 * valueOf(text, `${name}_sum`, succeeded)! + 0.04,
        0.005
      )
    })
  )

  it.effect("commits by result with duration and size; rebalances by kind with duration", () =>
    Effect.gen(function* () {
      const http = yield* endpoints()
      const s = yield* scripted({ batchSize: 1 })
      yield* http.registry.register(s.consumer)
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 3)
      s.session.answers.push(
        () => Effect.delay(Effect.succeed([{ ...at(0, 1), outcome: "committed" as const }]), 300),
        outcomes("retriable", "NOT_COORDINATOR")
      )
      yield* s.desk.finish(0, 0)
      yield* pass(300)
      yield* s.desk.finish(0, 1)
      yield* pass(1_000)
      const text = yield* scrape(http)
      assert.strictEqual(valueOf(text, `${ours}commits_total`, { result: "ok" }), 2)
      assert.strictEqual(valueOf(text, `${ours}commits_total`, { result: "failed" }), 1)
      assert.strictEqual(valueOf(text, `${ours}commit_entries_total`, { result: "committed" }), 2)
      assert.strictEqual(valueOf(text, `${ours}commit_entries_total`, { result: "retriable" }), 1)
      const duration = "messaging_client_operation_duration_seconds"
      const commit = { messaging_operation_name: "commit", messaging_operation_type: "settle" }
      assert.strictEqual(valueOf(text, `${duration}_count`, commit), 3)
      assert.closeTo(valueOf(text, `${duration}_sum`, commit)!, 0.3, 1e-9)
      assert.strictEqual(valueOf(text, `${duration}_bucket`, { ...commit, le: "0.25" }), 2)
      // topic and one entry, without a map
      assert.strictEqual(valueOf(text, `${ours}commit_size_bytes_sum`), 3 * (1 + 8 + 18))
      const lastCommit = valueOf(text, `${ours}last_commit_timestamp_seconds`)!
      assert.isTrue(lastCommit > 0.3 && lastCommit <= 1.3)

      yield* s.session.revoking([at(0, 1)], { exact: true })
      yield* pass(2_000)
      yield* s.desk.finishAll()
      yield* pass(100)
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 3 }])
      yield* s.session.lost(at(0, 2))
      const after = yield* scrape(http)
      const kinds = ["assigned", "revoked", "lost"].map((kind) => valueOf(after, `${ours}rebalances_total`, { kind }))
      assert.deepStrictEqual(kinds, [2, 1, 1])
      assert.strictEqual(valueOf(after, `${ours}revoke_duration_seconds_count`), 1)
      assert.isAtLeast(valueOf(after, `${ours}revoke_duration_seconds_sum`)!, 2)
    })
  )

  it.effect("C29, D48: lag is to the last stable offset; a transaction that hangs adds nothing to it", () =>
    Effect.gen(function* () {
      const w = yield* world()
      const { http, member } = yield* shown(w, { batchSize: 1_000, batchInterval: "10 minutes" })
      yield* w.produce(4)
      yield* pass(1_000)
      const open = yield* w.kafka.transaction
      yield* open.produce("t", [{ value: "hangs", partition: 0 }])
      yield* w.produce(50)
      yield* pass(1_000)
      const place = { topic: "t", partition: "0" }
      const numbers = (text: string) =>
        ["lag_offsets", "prefix_lag_offsets", "uncommitted_offsets", "gaps"].map((name) =>
          valueOf(text, `${ours}partition_${name}`, place)
        )
      assert.deepStrictEqual(numbers(yield* scrape(http)), [4, 4, 4, 0])
      // done behind a gap of two records, then of one, then the prefix, then what is committed
      yield* member.desk.finish(0, 2)
      assert.deepStrictEqual(numbers(yield* scrape(http)), [4, 4, 4, 2])
      yield* member.desk.finish(0, 1)
      assert.deepStrictEqual(numbers(yield* scrape(http)), [4, 4, 4, 1])
      yield* member.desk.finish(0, 0)
      assert.deepStrictEqual(numbers(yield* scrape(http)), [4, 1, 1, 0])
      yield* member.consumer.flush
      assert.deepStrictEqual(numbers(yield* scrape(http)), [1, 1, 1, 0])
      yield* member.desk.finish(0, 3)
      yield* member.consumer.flush
      assert.deepStrictEqual(numbers(yield* scrape(http)), [0, 0, 0, 0])
      yield* open.commit
      yield* pass(1_000)
      assert.isAtLeast(valueOf(yield* scrape(http), `${ours}partition_lag_offsets`, place)!, 51)
      yield* member.desk.finishAll()
      while (member.desk.running.length > 0) yield* member.desk.finishAll()
    })
  )

  it.effect("the offset map's bytes are those that were committed, and none without a gap", () =>
    Effect.gen(function* () {
      const w = yield* world()
      const { member, value } = yield* shown(w)
      yield* w.produce(6)
      yield* pass(1_000)
      const bytes = value(`${ours}partition_offset_map_bytes`, { topic: "t", partition: "0" })
      assert.strictEqual(yield* bytes, 0)
      yield* member.desk.finish(0, 1, 2, 4)
      yield* member.consumer.flush
      const { metadata } = w.kafka.committedUnsafe("g", "t", 0)!
      assert.isAbove(metadata.length, 0)
      assert.strictEqual(yield* bytes, metadata.length)
      yield* member.desk.finish(0, 0, 3)
      yield* member.consumer.flush
      assert.strictEqual(yield* bytes, 0)
      yield* member.desk.finishAll()
    })
  )

  it.effect("D49: a record's own time, whatever it is, makes no number negative", () =>
    Effect.gen(function* () {
      const w = yield* world()
      const { http } = yield* shown(w, { desk: new Desk({ auto: true }) })
      yield* w.kafka.produce("t", [
        { value: "a", partition: 0, timestamp: -1n },
        { value: "b", partition: 0, timestamp: 10n ** 17n }
      ])
      yield* pass(1_000)
      for (const { name, value } of samplesOf(yield* scrape(http))) assert.isAtLeast(value, 0, name)
    })
  )

  it.effect(
    "C30: series are of owned partitions only; above partitionSeries of topics only, with the worst partition",
    () =>
      Effect.gen(function* () {
        const w = yield* world({ partitions: 3, topics: ["t", "u"] })
        const { http, member } = yield* shown(
          w,
          { topics: ["t", "u"], batchInterval: "10 minutes" },
          Observability.layerMetrics({ partitionSeries: 6 })
        )
        const few = yield* endpoints(Observability.layerMetrics({ partitionSeries: 5, path: "/few" }))
        yield* few.registry.register(member.consumer)
        yield* w.produce(1, 0)
        yield* w.produce(3, 2)
        yield* w.produce(2, 1, "u")
        yield* pass(2_000)
        const partitionsOf = (text: string) => [
          ...new Set(
            samplesOf(text)
              .filter(({ name }) => name.startsWith(`${ours}partition_`))
              .map(({ labels }) => `${labels["topic"]}/${labels["partition"]}`)
          )
        ]
        const text = yield* scrape(http)
        assert.sameMembers(partitionsOf(text), ["t/0", "t/1", "t/2", "u/0", "u/1", "u/2"])
        const { text: fewText } = yield* few.get("/few")
        assert.deepStrictEqual(partitionsOf(fewText), [])
        for (const one of [text, fewText]) {
          assert.strictEqual(valueOf(one, `${ours}topic_lag_offsets`, { topic: "t" }), 4)
          assert.strictEqual(valueOf(one, `${ours}topic_worst_lag_offsets`, { topic: "t" }), 3)
          assert.strictEqual(valueOf(one, `${ours}topic_worst_lag_offsets_partition`, { topic: "t" }), 2)
          assert.strictEqual(valueOf(one, `${ours}topic_worst_lag_offsets_partition`, { topic: "u" }), 1)
        }
        // another member takes half of them
        yield* w.member("b", { topics: ["t", "u"], desk: member.desk })
        yield* pass(30_000)
        const left = partitionsOf(yield* scrape(http))
        assert.lengthOf(left, 3)
        assert.strictEqual(valueOf(yield* scrape(http), `${ours}assigned_partitions`), 3)
        yield* member.interrupt
        const none = yield* scrape(http)
        assert.deepStrictEqual(partitionsOf(none), [])
        assert.isEmpty(samplesOf(none).filter(({ name }) => name.startsWith(`${ours}topic_`)))
      })
  )

  it.effect("above topicSeries of all topics together, so that a scrape has a bound whatever is subscribed to", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 10)
      const snapshot = yield* s.consumer.snapshot
      const one = snapshot.partitions[0]!
      const scraped = (topics: number, bounds: Bounds = { partitions: 200, topics: 200 }) => {
        const partitions = Array.from({ length: topics }, (_, n) => ({ ...one, topic: `t${n}`, end: BigInt(n + 1) }))
        const registry = seriesOf([{ ...snapshot, partitions }], undefined, bounds, Context.empty())
        return PrometheusMetrics.formatUnsafe(Context.make(Metric.MetricRegistry, registry))
      }
      const each = scraped(200)
      assert.strictEqual(valueOf(each, `${ours}topic_lag_offsets`, { topic: "t199" }), 200)
      assert.isUndefined(valueOf(each, `${ours}topic_lag_offsets`, { topic: "*" }))
      const together = scraped(2_000)
      assert.isBelow(samplesOf(together).length, 250)
      assert.sameMembers([...new Set(samplesOf(together).flatMap(({ labels }) => labels["topic"] ?? []))], ["*"])
      assert.strictEqual(valueOf(together, `${ours}topic_lag_offsets`), (2_000 * 2_001) / 2)
      assert.strictEqual(valueOf(together, `${ours}topic_prefix_lag_offsets`), (2_000 * 2_001) / 2)
      assert.strictEqual(valueOf(together, `${ours}topic_worst_lag_offsets`), 2_000)
      assert.isUndefined(valueOf(together, `${ours}topic_worst_lag_offsets_partition`))
      assert.strictEqual(
        valueOf(scraped(1, { partitions: 0, topics: 0 }), `${ours}topic_lag_offsets`, { topic: "*" }),
        1
      )
      yield* s.desk.finishAll()
    })
  )

  it.effect("a consumer of several members has each partition once, also while one moves", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 4 })
      const { http, member } = yield* shown(w, { members: 3, concurrency: 2 })
      yield* w.produce(8, 1)
      const seriesAreUnique = Effect.map(scrape(http), (text) => {
        const names = text
          .split("\n")
          .filter((one) => one !== "" && !one.startsWith("#"))
          .map((one) => one.slice(0, one.lastIndexOf(" ")))
        assert.lengthOf(names, new Set(names).size)
        return text
      })
      for (let i = 0; i < 80; i++) {
        yield* pass(250)
        yield* seriesAreUnique
        if (i === 5) yield* w.member("b", { desk: new Desk({ auto: true }) })
      }
      const text = yield* seriesAreUnique
      assert.strictEqual(valueOf(text, `${ours}permits`), 6)
      assert.strictEqual(valueOf(text, `${ours}assigned_partitions`), 3)
      yield* member.desk.finishAll()
    })
  )

  it.effect(
    "what nobody has paused has its lag, also beside partitions that are paused, before any record has come",
    () =>
      Effect.gen(function* () {
        const w = yield* world({ partitions: 3 })
        for (const partition of [0, 1, 2]) {
          yield* w.produce(5 * (partition + 1), partition)
          yield* w.kafka.setCommitted("g", "t", partition, { offset: 1n })
        }
        const { http, member } = yield* shown(w, { concurrency: 1, maxHeldRecords: 1 })
        const lag = Effect.map(scrape(http), (text) => valueOf(text, `${ours}unpaused_lag_offsets`))
        yield* pass(2_000)
        assert.strictEqual(yield* lag, 4 + 9 + 14)
        yield* member.consumer.pause([{ topic: "t", partition: 1 }])
        assert.strictEqual(yield* lag, 4 + 14)
        yield* member.consumer.pause()
        assert.strictEqual(yield* lag, 0)
        yield* member.consumer.resume()
        assert.strictEqual(yield* lag, 4 + 9 + 14)
        yield* member.desk.finishAll()
      })
  )

  it.effect("what two members show of one partition counts once, as the newer owner has it", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      // what it lags behind is not known before the first chunk
      const text = (partitions: (old: PartitionSnapshot) => ReadonlyArray<PartitionSnapshot>) =>
        Effect.map(s.consumer.snapshot, (snapshot) => {
          const registry = seriesOf(
            [{ ...snapshot, partitions: partitions(snapshot.partitions[0]!) }],
            undefined,
            { partitions: 200, topics: 200 },
            Context.empty()
          )
          return PrometheusMetrics.formatUnsafe(Context.make(Metric.MetricRegistry, registry))
        })
      const unknown = yield* text((old) => [old])
      assert.isUndefined(valueOf(unknown, `${ours}partition_lag_offsets`))
      assert.isUndefined(valueOf(unknown, `${ours}topic_lag_offsets`))
      assert.strictEqual(valueOf(unknown, `${ours}partition_uncommitted_offsets`), 0)
      yield* s.session.chunk(0, 1, 0, 10)
      for (const turned of [false, true]) {
        const both = yield* text((old) => {
          const newer = { ...old, epoch: 2, committed: 4n, committable: 4n, buffered: 0, running: 1 }
          return turned ? [newer, old] : [old, newer]
        })
        assert.strictEqual(valueOf(both, `${ours}topic_lag_offsets`), 6)
        assert.strictEqual(valueOf(both, `${ours}partition_lag_offsets`), 6)
        assert.strictEqual(valueOf(both, `${ours}in_flight_records`), 1)
        assert.strictEqual(valueOf(both, `${ours}assigned_partitions`), 1)
      }
      yield* s.desk.finishAll()
    })
  )

  it.effect("interrupted, fenced, released, zombies, dead letters on their way, parked, unbounded permits", () =>
    Effect.gen(function* () {
      const http = yield* endpoints()
      const letters = new Letters()
      const s = yield* scripted({
        concurrency: "unbounded",
        desk: new Desk({ around: (_, wait) => Effect.uninterruptible(wait) }),
        policy: FailurePolicy.make(({ record }) =>
          record.offset === 0n
            ? { _tag: "DeadLetter", topic: "dead" }
            : { _tag: "Park", atMost: 10, atMostFor: 60_000, then: { _tag: "Skip" } }
        ),
        producer: letters.producer
      })
      yield* http.registry.register(s.consumer)
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 3)
      yield* s.desk.end(0, 0, Exit.fail(new Boom()))
      yield* s.desk.end(0, 1, Exit.fail(new Boom()))
      const text = yield* scrape(http)
      assert.strictEqual(valueOf(text, `${ours}permits`), Infinity)
      assert.strictEqual(valueOf(text, `${ours}sending_dead_letters`), 1)
      assert.strictEqual(valueOf(text, `${ours}parked_records`), 1)
      assert.strictEqual(valueOf(text, `${ours}in_flight_records`), 2)
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
      yield* pass(1_000)
      const after = yield* scrape(http)
      assert.strictEqual(valueOf(after, `${ours}interrupted_attempts_total`), 1)
      assert.strictEqual(valueOf(after, `${ours}zombies`), 1)
      assert.strictEqual(valueOf(after, `${ours}released_records_total`), 3)
      yield* s.desk.finishAll()
      const last = yield* scrape(http)
      assert.strictEqual(valueOf(last, `${ours}zombies`), 0)
      assert.strictEqual(valueOf(last, `${ours}fenced_total`), 1)
      assert.strictEqual(valueOf(last, `${ours}unexpected_transitions_total`), 0)
    })
  )

  it.effect("the program's own metrics are there, too", () =>
    Effect.gen(function* () {
      const shippedOrders = Metric.counter("shipped_orders_total", {
        description: "Orders shipped.",
        incremental: true
      })
      const http = yield* endpoints()
      yield* Metric.update(shippedOrders, 3)
      assert.strictEqual(valueOf(yield* scrape(http), "shipped_orders_total"), 3)
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )

  it.effect("no label comes from a record", () =>
    Effect.gen(function* () {
      const w = yield* world()
      const { http, member } = yield* shown(w, { ordering: "key" })
      yield* w.kafka.produce("t", [
        { key: "marker-key", value: "marker-value", partition: 0, headers: [["marker", "x"]] }
      ])
      yield* pass(1_000)
      const text = yield* scrape(http)
      assert.notInclude(text, "marker")
      assert.sameMembers(
        [...new Set(samplesOf(text).flatMap(({ labels }) => Object.keys(labels)))],
        [
          ...["consumer", "group", "topic", "partition", "outcome", "result", "kind", "code", "le", "error_type"],
          ...[
            "messaging_system",
            "messaging_consumer_group_name",
            "messaging_operation_name",
            "messaging_operation_type"
          ]
        ]
      )
      yield* member.desk.finishAll()
    })
  )
})
