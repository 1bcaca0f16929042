import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { ConsumerError } from "../src/ConsumerError.ts"
import { Handler } from "../src/Handler.ts"
import { KafkaClientError } from "../src/KafkaClient.ts"
import { Desk, pass, passUntil, turns, world } from "./harness.ts"
import { at, given, later, outcomes, scripted } from "./script.ts"

const reasonOf = (fiber: Fiber.Fiber<void, unknown>) =>
  Effect.map(
    Fiber.await(fiber),
    (exit) => (Cause.squash((exit as Exit.Failure<void, unknown>).cause) as ConsumerError).reason
  )

describe("where a partition starts", () => {
  it.effect("at the committed offset, which is not committed again", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.produce(10)
      yield* w.kafka.setCommitted("g", "t", 0, { offset: 7n })
      const a = yield* w.member("a", { startFrom: "latest" })
      assert.deepStrictEqual(a.desk.running, ["0:7", "0:8", "0:9"])
      assert.deepStrictEqual(w.commits(), [])
    })
  )

  it.effect(
    "earliest: at the log's start, also after retention; the start is committed before anything is fetched",
    () =>
      Effect.gen(function* () {
        const w = yield* world()
        yield* w.produce(10)
        yield* w.kafka.deleteRecordsBefore("t", 0, 4n)
        const a = yield* w.member("a")
        assert.deepStrictEqual(w.commits(), ["0=4"])
        assert.strictEqual(a.desk.started[0], "0:4")

        const s = yield* scripted()
        const late = later()
        s.session.answers.push(late.answer)
        yield* s.session.assign([{ partition: 0, epoch: 1 }])
        assert.deepStrictEqual([s.session.commits, s.session.begun], [["0=0"], []])
        yield* late.give()
        assert.deepStrictEqual(s.session.begun, ["0#1@0"])
      })
  )

  it.effect("latest: at the log's end, which a rebalance does not move: nothing in between is passed over", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.produce(5)
      const a = yield* w.member("a", { startFrom: "latest" })
      assert.deepStrictEqual(a.desk.running, [])
      assert.strictEqual(w.committed(), 5)
      yield* w.produce(10)
      assert.strictEqual(a.desk.running.length, 10)
      // it has finished none of them and goes away
      yield* a.close
      const b = yield* w.member("b", { startFrom: "latest" })
      assert.strictEqual(b.desk.started[0], "0:5")
      assert.strictEqual(b.desk.running.length, 10)
    })
  )

  it.effect("fail: ends the consumer with a typed error", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.produce(5)
      const a = yield* w.member("a", { startFrom: "fail" })
      assert.deepInclude(yield* reasonOf(a.fiber()), { _tag: "NoStart", topic: "t", partition: 0, why: "notCommitted" })
      assert.deepStrictEqual(a.desk.started, [])
      assert.deepStrictEqual(w.commits(), [])
    })
  )

  it.effect(
    "D20: metadata of other tools next to the committed offset neither stops the consumer nor skips a record (I12)",
    () =>
      Effect.gen(function* () {
        const foreign = [
          "kafka-streams",
          "AgAAAX8=",
          "bwAAAAAAAAA=",
          "X",
          "d",
          "D",
          '{"json":true}',
          "\u0000\u0001\uffff",
          "x".repeat(4_096)
        ]
        const w = yield* world({ partitions: foreign.length })
        for (let p = 0; p < foreign.length; p++) {
          yield* w.produce(3, p)
          yield* w.kafka.setCommitted("g", "t", p, { offset: 1n, metadata: foreign[p]! })
        }
        const a = yield* w.member("a", { desk: new Desk({ auto: true }) })
        yield* pass(10_000)
        assert.strictEqual(a.desk.started.length, 2 * foreign.length)
        for (let p = 0; p < foreign.length; p++) assert.strictEqual(w.committed(p), 3)
        assert.deepStrictEqual(yield* a.codes, [])
      })
  )

  it.effect("D29: partitions that are added are new: they start at their beginning also under latest", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 1 })
      yield* w.produce(5)
      const a = yield* w.member("a", { startFrom: "latest", desk: new Desk({ auto: true }) })
      yield* w.kafka.addPartitions("t", 3)
      yield* w.produce(4, 1)
      yield* w.produce(4, 2)
      yield* passUntil("noticed", () => a.desk.started.length >= 8, 60_000, 1_000)
      assert.deepStrictEqual(
        [...a.desk.started].sort(),
        [1, 2].flatMap((p) => [0, 1, 2, 3].map((o) => `${p}:${o}`))
      )
    })
  )

  it.effect(
    "reading the log's ends fails: tried again, never started from a guess; health says opening, degraded",
    () =>
      Effect.gen(function* () {
        const s = yield* scripted({ startFrom: "latest" })
        s.session.log = Effect.fail(new KafkaClientError({ reason: "Timeout", detail: "no answer" }))
        yield* s.session.assign([{ partition: 0, epoch: 1 }])
        yield* pass(2_000)
        assert.deepStrictEqual(s.session.begun, [])
        const health = yield* s.consumer.health
        assert.deepInclude(health, { status: "degraded", live: true, ready: true })
        assert.deepStrictEqual(
          health.reasons.map((r) => r.code),
          ["opening"]
        )
        s.session.log = { start: 0n, end: 77n }
        yield* pass(500)
        assert.deepStrictEqual(s.session.begun, ["0#1@77"])
        assert.deepStrictEqual((yield* s.consumer.health).reasons, [])
      })
  )

  it.effect("committing the start fails: tried again until it is stored", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      s.session.answers.push(
        outcomes("retriable", "NOT_COORDINATOR"),
        outcomes("retriable", "NOT_COORDINATOR"),
        outcomes("deferred", "REBALANCE_IN_PROGRESS")
      )
      yield* s.session.assign([{ partition: 0, epoch: 1 }])
      assert.deepStrictEqual(s.session.begun, [])
      yield* pass(5_000)
      assert.deepStrictEqual(s.session.begun, ["0#1@0"])
      assert.deepStrictEqual(s.session.commits, ["0=0", "0=0", "0=0", "0=0"])
    })
  )

  it.effect("a partition whose log cannot be read does not hold up the others", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      s.session.log = Effect.succeed([{ topic: "t", partition: 1, start: 3n, end: 9n }])
      yield* s.session.assign([
        { partition: 0, epoch: 1 },
        { partition: 1, epoch: 2 },
        { partition: 2, epoch: 3, committed: 5 }
      ])
      assert.deepStrictEqual(s.session.begun, ["2#3@5", "1#2@3"])
    })
  )

  it.effect("nor where a client answers for all that it is asked about or for none", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      const asked: Array<ReadonlyArray<number>> = []
      const { session } = s.session
      Object.assign(session, {
        logOffsets: (partitions: Parameters<typeof session.logOffsets>[0]): ReturnType<typeof session.logOffsets> =>
          Effect.suspend(() => {
            asked.push(partitions.map(({ partition }) => partition))
            return partitions.some(({ partition }) => partition === 0)
              ? Effect.fail(new KafkaClientError({ reason: "Timeout", detail: "no leader" }))
              : Effect.succeed(partitions.map(({ partition, topic }) => ({ topic, partition, start: 3n, end: 9n })))
          })
      })
      yield* s.session.assign([
        { partition: 0, epoch: 1 },
        { partition: 1, epoch: 2 },
        { partition: 2, epoch: 3 }
      ])
      assert.deepStrictEqual(s.session.begun, ["1#2@3", "2#3@3"])
      assert.deepStrictEqual(asked, [[0, 1, 2], [0], [1], [2]])
      // only what is not known is asked for again
      yield* pass(500)
      assert.deepStrictEqual(asked.slice(4), [[0]])
    })
  )
})

describe("topics and members", () => {
  it.effect(
    "D30: a topic that is created late: the consumer waits for it, health says topicMissing and not ready, then all is well",
    () =>
      Effect.gen(function* () {
        const w = yield* world()
        const a = yield* w.member("a", { topics: ["late"], desk: new Desk({ auto: true }) })
        yield* pass(5_000)
        const health = yield* a.health
        assert.deepInclude(health, { status: "down", live: true, ready: false })
        assert.sameMembers(
          health.reasons.map((r) => r.code),
          ["starting", "topicMissing"]
        )
        yield* w.kafka.createTopic("late")
        yield* w.kafka.produce("late", [{ value: "x" }])
        yield* passUntil("handled", () => a.desk.started.length === 1, 10_000)
        assert.deepStrictEqual(yield* a.codes, [])
      })
  )

  it.effect("D30: with topicTimeout run fails, typed", () =>
    Effect.gen(function* () {
      const w = yield* world()
      const a = yield* w.member("a", { topics: ["late"], topicTimeout: "10 seconds" })
      yield* passUntil("it has ended", () => a.fiber().pollUnsafe() !== undefined, 15_000)
      const reason = yield* reasonOf(a.fiber())
      assert.strictEqual(reason._tag === "Client" && reason.error.reason, "TopicMissing")
    })
  )

  it.effect(
    "D34: two consumers of one group in one process have names of their own, and each sees its own partitions",
    () =>
      Effect.gen(function* () {
        const w = yield* world({ partitions: 2 })
        const a = yield* w.member("a")
        const b = yield* w.member("b")
        yield* passUntil(
          "both have one",
          () => w.kafka.groupUnsafe("g").members.every((m) => m.assignment.length === 1),
          20_000
        )
        const [one, other] = [yield* a.consumer.snapshot, yield* b.consumer.snapshot]
        assert.strictEqual(one.partitions.length, 1)
        assert.strictEqual(other.partitions.length, 1)
        assert.notStrictEqual(one.partitions[0]!.partition, other.partitions[0]!.partition)
      })
  )

  it.effect(
    "D35: a group that is used with another protocol or assignor: not ready, protocolMismatch, tried again until it fits",
    () =>
      Effect.gen(function* () {
        const w = yield* world()
        yield* w.produce(1)
        const a = yield* w.member("a", { client: { assignors: ["other"] } })
        for (const client of [{ assignors: ["sticky"] }, { protocol: "incremental" as const }]) {
          const b = yield* w.member("b", { client, name: `b ${Object.keys(client).join()}` })
          yield* pass(5_000)
          const health = yield* b.health
          assert.deepInclude(health, { status: "down", live: true, ready: false })
          assert.sameMembers(
            health.reasons.map((r) => r.code),
            ["starting", "protocolMismatch"]
          )
          assert.include(health.reasons.map((r) => r.message).join(), "g")
          if (client.protocol === undefined) yield* b.close
          else {
            yield* a.close
            yield* passUntil("it has joined", () => b.desk.running.length === 1, 60_000, 1_000)
            assert.notInclude(yield* b.codes, "protocolMismatch")
          }
        }
      })
  )

  it.effect("D37: a handler may run for much longer than the session timeout: heartbeats are on a timer", () =>
    Effect.gen(function* () {
      for (const protocol of ["eager", "incremental"] as const) {
        const w = yield* world({ protocol })
        yield* w.produce(1)
        const a = yield* w.member("a", { sessionTimeout: 9_000, heartbeatInterval: 3_000 })
        yield* pass(120_000)
        assert.deepStrictEqual(a.desk.running, ["0:0"])
        assert.strictEqual(w.kafka.groupUnsafe("g").members.length, 1)
        yield* a.desk.finish(0, 0)
        yield* pass(10_000)
        assert.strictEqual(w.committed(), 1)
      }
    })
  )

  it.effect("D32: a process that stood still commits nothing stale; its handlers have a fencing token", () =>
    Effect.gen(function* () {
      for (const protocol of ["eager", "incremental"] as const) {
        const w = yield* world({ protocol })
        yield* w.produce(4)
        const options = { batchSize: 1, minCommitInterval: 0, sessionTimeout: 9_000 }
        const a = yield* w.member("a", options)
        yield* a.desk.finish(0, 0)
        const old = a.desk.at(0, 1).record
        yield* a.session().freeze
        yield* a.desk.finish(0, 1)
        const b = yield* w.member("b", { ...options, desk: new Desk({ auto: true }) })
        yield* passUntil("b has taken over", () => w.committed() === 4, 60_000, 1_000)
        const newer = b.desk.at(0, 1).record
        assert.isAbove(newer.generation, old.generation)
        assert.notStrictEqual(newer.epoch, old.epoch)
        yield* a.session().thaw
        yield* a.desk.finish(0, 2)
        yield* pass(30_000)
        assert.strictEqual(w.committed(), 4)
        assert.deepStrictEqual(a.desk.running, [])
      }
    })
  )

  it.effect(
    "D55: run twice: the second call fails, typed, and the first goes on; after its interruption it may be called again",
    () =>
      Effect.gen(function* () {
        const w = yield* world()
        yield* w.produce(3)
        const a = yield* w.member("a")
        const exit = yield* Effect.exit(a.consumer.run(Handler.make("t", () => Effect.void)))
        const error = Cause.squash((exit as Exit.Failure<void, unknown>).cause) as ConsumerError
        assert.strictEqual(error.reason._tag, "AlreadyRunning")
        assert.strictEqual(a.desk.running.length, 3)
        yield* a.interrupt
        assert.deepStrictEqual(w.kafka.groupUnsafe("g").members, [])
        yield* a.run
        assert.strictEqual(a.desk.running.length, 3)
      })
  )

  it.effect("D55: an interrupted run does not sit on partitions: another member gets them", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 2 })
      for (let p = 0; p < 2; p++) yield* w.produce(2, p)
      const a = yield* w.member("a")
      const b = yield* w.member("b")
      yield* pass(9_000)
      yield* a.desk.finishAll()
      yield* a.interrupt
      yield* passUntil("b has both", () => w.kafka.groupUnsafe("g").members[0]?.assignment.length === 2, 20_000)
      assert.strictEqual((yield* b.consumer.snapshot).partitions.length, 2)
      assert.deepStrictEqual(yield* a.codes, ["idle"])
    })
  )

  it.effect("a handler of other topics than the session's is refused", () =>
    Effect.gen(function* () {
      const w = yield* world({ topics: ["t", "u"] })
      const a = yield* w.member("a", { idle: true, topics: ["t", "u"] })
      const exit = yield* Effect.exit(a.consumer.run(Handler.make("t", () => Effect.void)))
      const error = Cause.squash((exit as Exit.Failure<void, unknown>).cause) as ConsumerError
      assert.deepInclude(error.reason, { _tag: "TopicsDiffer", handler: ["t"], session: ["t", "u"] })
      assert.include(error.message, "t, u")
      const ok = yield* Effect.forkChild(a.consumer.run(Handler.make(["u", "t"], () => Effect.void)))
      yield* turns
      assert.isUndefined(ok.pollUnsafe())
    })
  )

  it.effect("several topics in one consumer", () =>
    Effect.gen(function* () {
      const w = yield* world({ topics: ["t", "u"] })
      yield* w.produce(2, 0, "t")
      yield* w.produce(2, 0, "u")
      const a = yield* w.member("a", { topics: ["t", "u"] })
      assert.sameMembers(
        a.desk.attempts.map((attempt) => `${attempt.record.topic}:${attempt.record.offset}`),
        ["t:0", "t:1", "u:0", "u:1"]
      )
      yield* a.desk.finishAll()
      yield* pass(10_000)
      assert.deepStrictEqual([w.committed(0, "t"), w.committed(0, "u")], [2, 2])
    })
  )

  it.effect("what a handler is given: the record, and what is known of the attempt", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.kafka.produce("t", [
        {
          key: "k",
          value: "v",
          headers: [
            ["h", "x"],
            ["n", null]
          ],
          timestamp: 1234
        }
      ])
      const a = yield* w.member("a")
      const { record } = a.desk.at(0, 0)
      const text = (bytes: Uint8Array | null) => (bytes === null ? null : new TextDecoder().decode(bytes))
      assert.deepStrictEqual(
        [record.topic, record.partition, record.offset, record.timestamp, text(record.key), text(record.value)],
        ["t", 0, 0n, 1234n, "k", "v"]
      )
      assert.deepStrictEqual(
        record.headers.map(([name, value]) => [name, text(value)]),
        [
          ["h", "x"],
          ["n", null]
        ]
      )
      assert.deepStrictEqual([record.attempt, record.groupId, record.generation], [1, "g", 1])
      assert.isAbove(record.epoch, 0)
      // printing it shows where it is, and nothing of what is in it
      const printed = JSON.stringify(record)
      assert.deepStrictEqual(JSON.parse(printed), {
        topic: "t",
        partition: 0,
        offset: "0",
        attempt: 1,
        epoch: record.epoch
      })
    })
  )

  it.effect("a partition that was given up on the broker's answer and is retained after all is opened anew", () =>
    Effect.gen(function* () {
      const s = yield* given([3], { batchSize: 1 })
      s.session.answers.push(outcomes("stale", "UNKNOWN_MEMBER_ID"))
      yield* s.desk.finish(0, 0)
      assert.deepStrictEqual(s.desk.interrupted, ["0:1", "0:2"])
      yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 0 }])
      assert.deepStrictEqual(s.session.begun, ["0#1@0", "0#1001@0"])
      yield* s.session.chunk(0, 1001, 0, 3)
      assert.deepStrictEqual(s.desk.running, ["0:0", "0:1", "0:2"])
    })
  )

  it.effect("a partition that was given up, is retained, and is lost before that is looked at is not opened", () =>
    Effect.gen(function* () {
      const s = yield* given([3], { batchSize: 1 })
      s.session.answers.push(outcomes("stale", "UNKNOWN_MEMBER_ID"))
      yield* s.desk.finish(0, 0)
      // the client has lost it since, and says so next
      s.session.reopens = false
      yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 0 }])
      assert.deepStrictEqual(s.session.begun, ["0#1@0"])
      assert.deepStrictEqual((yield* s.consumer.snapshot).partitions, [])
      yield* s.session.lost(at(0, 1))
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
      assert.deepStrictEqual(s.session.begun, ["0#1@0", "0#2@0"])
    })
  )

  it.effect("a partition that is retained although it was never ours is opened as new, and counted as unexpected", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ careless: true })
      yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 3 }])
      assert.deepStrictEqual(s.session.begun, ["0#1001@3"])
      assert.strictEqual((yield* s.consumer.snapshot).unexpectedTransitions, 1)
      assert.deepStrictEqual(s.unexpected, ["partition none retained"])
    })
  )
})
