import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { ConcurrentConsumer } from "../src/ConcurrentConsumer.ts"
import type { ConsumerError } from "../src/ConsumerError.ts"
import { type Decision, type Failure, FailurePolicy, type ParkLimits } from "../src/FailurePolicy.ts"
import { Handler } from "../src/Handler.ts"
import { KafkaClient } from "../src/KafkaClient.ts"
import { KafkaProducer } from "../src/KafkaProducer.ts"
import { Boom, Desk, ended, type Member, pass, turns, whileTimePasses, world } from "./harness.ts"
import { OffsetMap } from "../src/OffsetMap.ts"
import { Letters, refused, taken } from "./letters.ts"
import { at, given, recordAt, scripted, type Scripted, type ScriptOptions } from "./script.ts"

const errorOf = (member: Member | Scripted) =>
  Effect.map(turns, () => {
    const exit = member.fiber().pollUnsafe()
    if (exit === undefined || Exit.isSuccess(exit)) assert.fail("it has not failed")
    return Cause.squash((exit as Exit.Failure<void, unknown>).cause) as ConsumerError
  })

const fail = (s: Pick<Scripted, "desk">, ...offsets: ReadonlyArray<number>) =>
  Effect.forEach(offsets, (offset) => s.desk.end(0, offset, Exit.fail(new Boom())), { discard: true })

const partition = (s: Pick<Scripted, "consumer">) =>
  Effect.map(s.consumer.snapshot, ({ partitions }) => {
    if (partitions[0] === undefined) assert.fail("there is no partition")
    return partitions[0]!
  })

const outcomes = (s: Pick<Scripted, "consumer">) => Effect.map(s.consumer.snapshot, (snapshot) => snapshot.outcomes)

const skip = { _tag: "Skip" } as const
const hour = 3_600_000

/** what is said about records is written down */
const parks = (then: Decision.Park["then"], limits?: ParkLimits) => {
  const asked: Array<string> = []
  const policy = FailurePolicy.make(({ attempt, record }: Failure<Boom>) => {
    asked.push(`${record.offset}#${attempt}`)
    return { _tag: "Park" as const, ...(limits === undefined ? {} : { limits }), then }
  })
  return { asked, policy }
}

const opened = (options: ScriptOptions = {}, records = 4) =>
  given([records], {
    policy: parks(skip).policy,
    batchSize: 1,
    minCommitInterval: 0,
    stuckAfter: 10 * hour,
    ...options
  })

/** Record 0 is the test's to end; 99 behind it are done, which is as far as `maxUncommitted` lets it go, and 50 wait. */
const waitingForFirst = Effect.gen(function* () {
  const desk = new Desk()
  const handler = Handler.make("t", (record) => (record.offset === 0n ? desk.handle(record) : Effect.void))
  const s = yield* opened({ maxUncommitted: 100, desk, handler }, 150)
  yield* pass(1)
  assert.deepInclude(yield* partition(s), { running: 1, buffered: 50, paused: ["uncommitted"] })
  return s
})

describe("parking", () => {
  it.effect(
    "a parked record is a gap: others go on and are committed with the map, it keeps no permit and stays held",
    () =>
      Effect.gen(function* () {
        const s = yield* opened({ concurrency: 1 })
        const { heldBytes } = yield* partition(s)
        yield* fail(s, 0)
        assert.deepStrictEqual(s.desk.running, ["0:1"])
        yield* s.desk.finish(0, 1)
        yield* s.desk.finish(0, 2)
        yield* s.desk.finish(0, 3)
        yield* pass(2_000)
        const { held, outcomes, partitions, permits } = yield* s.consumer.snapshot
        assert.deepStrictEqual(outcomes, ended({ handled: 3 }))
        assert.deepInclude(partitions[0], {
          parked: 1,
          waiting: 0,
          running: 0,
          heldRecords: 1,
          committable: 0n,
          gaps: 1
        })
        assert.deepInclude(partitions[0]!.oldest, { offset: 0n, state: "parked", attempt: 1 })
        assert.strictEqual(permits.used, 0)
        assert.deepInclude(held, { records: 1, bytes: heldBytes / 4 })
        const last = s.session.sent.at(-1)!.entries[0]!
        assert.strictEqual(last.offset, 0n)
        assert.isAbove(last.metadata.length, 0)
        assert.deepStrictEqual(
          (yield* s.consumer.health).reasons.map(({ code, count, at }) => ({ code, count, at })),
          [{ code: "parked", count: 1, at: { topic: "t", partition: 0, offset: 0n } }]
        )
      })
  )

  it.effect("I4: what lies behind a parked record in its lane waits for it, and no other lane does", () =>
    Effect.gen(function* () {
      const s = yield* opened({
        ordering: ({ offset }) => (offset % 2n === 0n ? "even" : "odd"),
        policy: parks(skip, { atMostFor: 1_000 }).policy
      })
      yield* fail(s, 0)
      yield* s.desk.finish(0, 1)
      yield* s.desk.finish(0, 3)
      yield* pass(999)
      assert.deepStrictEqual(s.desk.started, ["0:0", "0:1", "0:3"])
      yield* pass(1)
      assert.deepStrictEqual(s.desk.running, ["0:2"])
      assert.deepStrictEqual(yield* outcomes(s), ended({ handled: 2, skipped: 1 }))
    })
  )

  // ------------------------------------------------------------------ limits

  it.effect("at the limit of records the longest parked goes to what comes after", () =>
    Effect.gen(function* () {
      const { asked, policy } = parks(skip, { atMost: 2 })
      const s = yield* opened({ policy })
      yield* fail(s, 2, 0)
      assert.strictEqual((yield* partition(s)).parked, 2)
      yield* fail(s, 3)
      assert.deepInclude(yield* partition(s), { parked: 2, committable: 0n })
      assert.deepStrictEqual((yield* partition(s)).doneBehindGap.map(String), ["2,3"])
      yield* fail(s, 1)
      assert.deepInclude(yield* partition(s), { parked: 2, committable: 1n })
      assert.deepStrictEqual(yield* outcomes(s), ended({ skipped: 2 }))
      // decided when it was parked
      assert.deepStrictEqual(asked, ["2#1", "0#1", "3#1", "1#1"])
    })
  )

  it.effect("what waits behind parked records counts to the limit, ordered by key as by partition", () =>
    Effect.gen(function* () {
      for (const ordering of ["key", "partition"] as const) {
        const s = yield* opened(
          { ordering: ordering === "key" ? () => "same" : ordering, policy: parks(skip, { atMost: 3 }).policy },
          1
        )
        yield* fail(s, 0)
        yield* s.session.chunk(0, 1, 1, 3)
        assert.deepInclude(yield* partition(s), { parked: 1, buffered: 2 }, ordering)
        yield* s.session.chunk(0, 1, 3, 4)
        assert.deepInclude(yield* partition(s), { parked: 0, buffered: 2, running: 1 }, ordering)
        assert.deepStrictEqual(s.desk.running, ["0:1"])
        // and the same for the next one, whose lane waits already
        yield* s.session.chunk(0, 1, 4, 6)
        yield* fail(s, 1)
        assert.deepStrictEqual(s.desk.running, ["0:2"])
        assert.deepStrictEqual(yield* outcomes(s), ended({ skipped: 2 }))
      }
    })
  )

  it.effect("a parked record goes to what comes after when its time is over, whatever its timestamp is", () =>
    Effect.gen(function* () {
      const s = yield* opened({ policy: parks(skip, { atMostFor: "10 minutes" }).policy })
      yield* fail(s, 0)
      yield* pass(60_000)
      yield* fail(s, 1)
      yield* pass(539_999)
      assert.strictEqual((yield* partition(s)).parked, 2)
      yield* pass(1)
      assert.deepInclude(yield* partition(s), { parked: 1, committable: 1n })
      yield* pass(60_000)
      assert.deepInclude(yield* partition(s), { parked: 0, committable: 2n })
      assert.deepStrictEqual(yield* outcomes(s), ended({ skipped: 2 }))
    })
  )

  it.effect("each has its own time: one that may be parked for less does not wait for the one before it", () =>
    Effect.gen(function* () {
      const s = yield* opened({
        policy: FailurePolicy.make(({ record }) => ({
          _tag: "Park",
          limits: { atMostFor: record.offset === 0n ? "10 minutes" : "1 minute" },
          then: skip
        }))
      })
      yield* fail(s, 0, 1)
      yield* pass(60_000)
      assert.deepInclude(yield* partition(s), { parked: 1, committable: 0n })
      assert.deepStrictEqual(yield* outcomes(s), ended({ skipped: 1 }))
    })
  )

  it.effect("an hour, and 1,000 records, where nothing is said", () =>
    Effect.gen(function* () {
      const s = yield* opened(
        {
          concurrency: "unbounded",
          policy: FailurePolicy.park().pipe(FailurePolicy.orSkip),
          handler: Handler.make("t", ({ offset }) => (offset === 1_001n ? Effect.never : Effect.fail(new Boom())))
        },
        1_001
      )
      assert.deepInclude(yield* partition(s), { parked: 1_000, committable: 1n })
      yield* pass(hour - 1)
      assert.strictEqual((yield* partition(s)).parked, 1_000)
      yield* pass(1)
      assert.deepInclude(yield* partition(s), { parked: 0, committable: 1_001n })
    })
  )

  it.effect("the time goes on while its partition is paused", () =>
    Effect.gen(function* () {
      const s = yield* opened({ policy: parks(skip, { atMostFor: 1_000 }).policy })
      yield* fail(s, 0)
      yield* s.consumer.pause()
      yield* pass(1_000)
      assert.deepStrictEqual(yield* outcomes(s), ended({ skipped: 1 }))
      // a retry waits, as every start does
      const t = yield* opened({ policy: parks({ _tag: "Retry", after: 0 }, { atMostFor: 1_000 }).policy })
      yield* fail(t, 0)
      yield* t.consumer.pause()
      yield* pass(5_000)
      assert.deepInclude(yield* partition(t), { parked: 0, waiting: 1 })
      yield* t.consumer.resume()
      assert.strictEqual(t.desk.at(0, 0).record.attempt, 2)
    })
  )

  it.effect("while its partition is suspended the time goes on, and what is over then is decided when it is back", () =>
    Effect.gen(function* () {
      const s = yield* opened({ policy: parks(skip, { atMostFor: 10_000 }).policy })
      yield* s.desk.finish(0, 2, 3)
      yield* fail(s, 0)
      yield* pass(1_000)
      yield* fail(s, 1)
      const reply = yield* s.session.revoking([at(0, 1)], { exact: false })
      assert.isTrue(reply.answered())
      yield* pass(9_500)
      assert.strictEqual((yield* partition(s)).parked, 2)
      assert.deepStrictEqual(yield* outcomes(s), ended({ handled: 2 }))
      yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 0 }])
      assert.deepInclude(yield* partition(s), { parked: 1, committable: 1n })
      yield* pass(500)
      assert.deepInclude(yield* partition(s), { parked: 0, committable: 4n })
      assert.strictEqual(s.session.commits.at(-1), "0=4")
    })
  )

  it.effect("many whose time is over at once are all decided about", () =>
    Effect.gen(function* () {
      const many = 8_000
      const { policy } = parks(skip, { atMost: 100_000, atMostFor: 10_000 })
      const s = yield* opened(
        {
          concurrency: "unbounded",
          policy,
          maxUncommitted: 100_000,
          handler: Handler.make("t", ({ offset }) => (offset === 0n ? Effect.never : Effect.fail(new Boom())))
        },
        many
      )
      yield* turns
      assert.strictEqual((yield* partition(s)).parked, many - 1)
      yield* s.session.revoking([at(0, 1)], { exact: false })
      yield* pass(20_000)
      yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 0 }])
      yield* pass(1)
      assert.deepInclude(yield* partition(s), { parked: 0, heldRecords: 1 })
      assert.deepStrictEqual(yield* outcomes(s), ended({ skipped: many - 1 }))
    })
  )

  // a pattern that nothing compresses
  const failing = (offset: bigint): boolean => {
    let hash = Math.imul(Number(offset) + 1, 0x85ebca6b)
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
    return ((hash ^ (hash >>> 16)) & 1) === 1
  }
  const many = 6_000
  const failures = Array.from({ length: many }, (_, i) => failing(BigInt(i))).filter(Boolean).length

  const mapped = (slow: number | undefined, concurrency = 20, then: Decision.Park["then"] = skip) =>
    Effect.gen(function* () {
      const w = yield* world({ maxMetadataLength: 200 })
      w.expect("passedOver")
      yield* w.produce(many)
      const desk = new Desk()
      const a = yield* w.member("a", {
        desk,
        concurrency,
        stuckAfter: hour,
        policy: parks(then, { atMost: 100_000 }).policy,
        handler: Handler.make("t", (record) =>
          Number(record.offset) === slow
            ? desk.handle(record)
            : Effect.andThen(Effect.sleep(20), failing(record.offset) ? Effect.fail(new Boom()) : Effect.void)
        )
      })
      return { ...w, a }
    })

  it.effect("when the offset map is almost full the lowest parked records go, one by one, until there is room", () =>
    Effect.gen(function* () {
      // thousands are parked before the broker says for the first time that a map is too long
      const { a } = yield* mapped(undefined, 100)
      let most = 0
      for (let i = 0; i < 200; i++) {
        yield* pass(20)
        most = Math.max(most, (yield* partition(a)).parked)
      }
      assert.isAbove(most, 2_000)
      const { committable, delivered, parked, paused, running } = yield* partition(a)
      assert.strictEqual(delivered, BigInt(many))
      assert.deepInclude({ paused, running }, { paused: [], running: 0 })
      // 200 characters are the bits of about 1,200 records; the first map that is longer tells that no more is taken
      assert.isAbove(parked, 100)
      assert.isBelow(parked, 700)
      const { handled, skipped } = yield* outcomes(a)
      assert.deepStrictEqual([handled, skipped], [many - failures, failures - parked])
      // the highest are left
      const left = Array.from({ length: many - Number(committable) }, (_, i) => committable + BigInt(i))
      assert.lengthOf(left.filter(failing), parked)
    })
  )

  it.effect("a record that is parked while the offset map is almost full is decided about at once", () =>
    Effect.gen(function* () {
      const { a } = yield* mapped(0, 20, { _tag: "Retry", after: hour })
      for (let i = 0; i < 400; i++) yield* pass(20)
      const before = yield* partition(a)
      assert.deepInclude(before, { running: 1, waiting: 1, committable: 0n })
      assert.include(before.paused, "map")
      assert.isBelow((yield* outcomes(a)).handled, 2_000)
      yield* fail(a, 0)
      yield* pass(20)
      assert.deepInclude(yield* partition(a), { running: 0, waiting: 2, parked: before.parked })
    })
  )

  it.effect("behind a record that never ends parked ones go one after another, until the map has room", () =>
    Effect.gen(function* () {
      const { a } = yield* mapped(0)
      for (let i = 0; i < 400; i++) yield* pass(20)
      const { committable, delivered, parked, paused, running } = yield* partition(a)
      assert.deepInclude({ committable, delivered, paused, running }, { committable: 0n, paused: [], running: 1 })
      assert.strictEqual(delivered, BigInt(many))
      assert.isAbove(parked, 0)
      const stuck = failing(0n) ? 1 : 0
      const { handled, skipped } = yield* outcomes(a)
      assert.deepStrictEqual([handled, skipped], [many - failures - 1 + stuck, failures - stuck - parked])
    })
  )

  // ------------------------------------------------------------------ what comes after

  it.effect("after parking: skip, dead letter, stop, retry", () =>
    Effect.gen(function* () {
      const letters = new Letters()
      const answers: ReadonlyArray<Decision.Park["then"]> = [
        skip,
        { _tag: "DeadLetter", topic: "dead", reason: "parked for too long" },
        { _tag: "Retry", after: 500 },
        { _tag: "Stop" }
      ]
      const s = yield* opened({
        producer: letters.producer,
        policy: FailurePolicy.make(({ record }) => ({
          _tag: "Park",
          limits: { atMostFor: 1_000 + Number(record.offset) },
          then: answers[Number(record.offset)]!
        }))
      })
      yield* fail(s, 0, 1, 2, 3)
      assert.deepInclude(yield* partition(s), { parked: 4, running: 0 })
      yield* pass(1_000)
      assert.deepStrictEqual(yield* outcomes(s), ended({ skipped: 1 }))

      yield* pass(1)
      assert.deepInclude(yield* partition(s), { parked: 2, sending: 1 })
      yield* letters.answer(taken)
      assert.deepStrictEqual(yield* outcomes(s), ended({ skipped: 1, deadLettered: 1 }))

      yield* pass(1)
      assert.deepInclude(yield* partition(s), { parked: 1, waiting: 1 })

      yield* pass(1)
      assert.deepInclude((yield* errorOf(s)).reason, { _tag: "Stopped", offset: 3n })
      const { held, outcomes: counted, released } = yield* s.consumer.snapshot
      assert.deepStrictEqual(counted, ended({ skipped: 1, deadLettered: 1 }))
      assert.strictEqual(released, 2)
      assert.deepInclude(held, { records: 0, bytes: 0 })
      assert.strictEqual(s.session.commits.at(-1), "0=2")
    })
  )

  it.effect("a record that is tried again after parking counts its attempts on, and may be parked anew", () =>
    Effect.gen(function* () {
      const { asked, policy } = parks({ _tag: "Retry", after: 500 }, { atMostFor: 1_000 })
      const s = yield* opened({ policy, ordering: "partition" })
      yield* fail(s, 0)
      yield* pass(1_000)
      assert.deepInclude(yield* partition(s), { parked: 0, waiting: 1, running: 0 })
      yield* pass(500)
      assert.deepStrictEqual(s.desk.running, ["0:0"])
      assert.strictEqual(s.desk.at(0, 0).record.attempt, 2)
      yield* fail(s, 0)
      assert.deepInclude(yield* partition(s), { parked: 1, waiting: 0, running: 0 })
      yield* pass(1_500)
      yield* s.desk.finish(0, 0)
      assert.deepStrictEqual(s.desk.running, ["0:1"])
      assert.deepStrictEqual(asked, ["0#1", "0#2"])
      const { outcomes, retries } = yield* s.consumer.snapshot
      assert.deepStrictEqual(outcomes, ended({ handled: 1 }))
      assert.strictEqual(retries, 2)
    })
  )

  it.effect("when several are over at once and the first one stops the consumer, the others are only released", () =>
    Effect.gen(function* () {
      const s = yield* opened({ policy: parks({ _tag: "Stop" }, { atMostFor: 1_000 }).policy })
      yield* fail(s, 0, 1, 2, 3)
      yield* s.session.revoking([at(0, 1)], { exact: false })
      yield* pass(1_500)
      yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 0 }])
      yield* turns
      const exit = s.fiber().pollUnsafe()
      if (exit === undefined || Exit.isSuccess(exit)) assert.fail("it has not failed")
      assert.lengthOf((exit as Exit.Failure<void, unknown>).cause.reasons, 1)
      assert.deepInclude(yield* s.consumer.snapshot, { released: 4, outcomes: ended({}) })
    })
  )

  // ------------------------------------------------------------------ the end of an epoch

  it.effect(
    "D12: parked and revoked: released, and comes again with the next epoch, where its policy begins anew",
    () =>
      Effect.gen(function* () {
        const policy = FailurePolicy.retry(Schedule.recurs(1)).pipe(FailurePolicy.orPark(), FailurePolicy.orSkip)
        const s = yield* opened({ policy })
        for (let epoch = 1; epoch <= 3; epoch++) {
          yield* fail(s, 0)
          yield* pass(1)
          assert.strictEqual(s.desk.at(0, 0).record.attempt, 2)
          yield* fail(s, 0)
          assert.deepInclude(yield* partition(s), { parked: 1, waiting: 0 })
          yield* s.desk.finishAll()
          const reply = yield* s.session.revoking([at(0, epoch)], { exact: true })
          assert.isTrue(reply.answered())
          assert.deepInclude(yield* s.consumer.snapshot, { released: epoch })
          assert.deepInclude((yield* s.consumer.snapshot).held, { records: 0, bytes: 0 })
          // its time does not go on
          yield* pass(2 * hour)
          assert.deepInclude(yield* outcomes(s), { skipped: 0 })
          yield* s.session.assign([{ partition: 0, epoch: epoch + 1, committed: 0 }])
          yield* s.session.chunk(0, epoch + 1, 0, 1)
          assert.strictEqual(s.desk.at(0, 0).record.attempt, 1)
        }
        assert.include(s.rows, "record:R17")
      })
  )

  it.effect("D12: parked and retained: it stays parked over a rejoin, with its lane behind it", () =>
    Effect.gen(function* () {
      const s = yield* opened({ ordering: "partition", policy: parks(skip, { atMostFor: 10_000 }).policy })
      yield* fail(s, 0)
      yield* s.session.revoking([at(0, 1)], { exact: false })
      yield* pass(1_000)
      yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 0 }])
      yield* pass(8_999)
      assert.deepInclude(yield* partition(s), { parked: 1, buffered: 3, running: 0 })
      assert.strictEqual((yield* s.consumer.snapshot).released, 0)
      yield* pass(1)
      assert.deepStrictEqual(s.desk.running, ["0:1"])
    })
  )

  it.effect("D12: parked, suspended, and then another member's: released", () =>
    Effect.gen(function* () {
      const s = yield* opened({ ordering: "partition" })
      yield* fail(s, 0)
      yield* s.session.revoking([at(0, 1)], { exact: false })
      yield* pass(1_000)
      yield* s.session.assign([])
      const { held, released } = yield* s.consumer.snapshot
      assert.strictEqual(released, 4)
      assert.deepInclude(held, { records: 0, bytes: 0 })
      yield* pass(2 * hour)
      assert.deepStrictEqual(yield* outcomes(s), ended({}))
      // its lane is free again
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
      yield* s.session.chunk(0, 2, 0, 2)
      assert.deepStrictEqual(s.desk.running, ["0:0"])
    })
  )

  it.effect("D12: with a Kafka: the next owner handles what was parked here, and not what was done behind it", () =>
    Effect.gen(function* () {
      for (const protocol of ["eager", "incremental"] as const) {
        yield* Effect.scoped(
          Effect.gen(function* () {
            const w = yield* world({ protocol })
            yield* w.produce(4)
            const a = yield* w.member("a", { policy: parks(skip).policy })
            yield* fail(a, 1)
            yield* a.desk.finish(0, 0, 2, 3)
            yield* whileTimePasses(a.close)
            assert.strictEqual(w.committed(), 1)
            const b = yield* w.member("b")
            yield* pass(1_000)
            assert.deepStrictEqual(b.desk.started, ["0:1"])
            yield* b.desk.finish(0, 1)
            yield* pass(11_000)
            assert.strictEqual(w.committed(), 4)
          })
        )
      }
    })
  )

  it.effect("lost, sought, closed: a parked record is released, its time ends with its epoch", () =>
    Effect.gen(function* () {
      for (const how of ["lost", "sought", "drain", "interrupt"] as const) {
        const s = yield* opened({ ordering: "partition", shutdown: how === "drain" ? "drain" : "interrupt" })
        yield* fail(s, 0)
        if (how === "lost") yield* s.session.lost(at(0, 1))
        else if (how === "sought") yield* s.consumer.seek({ topic: "t", partition: 0 }, 2n)
        else {
          const closing = yield* Effect.forkChild(s.close)
          yield* turns
          // nobody waits for it
          assert.isDefined(closing.pollUnsafe(), how)
          yield* Fiber.join(closing)
        }
        yield* pass(2 * hour)
        const { held, outcomes, released } = yield* s.consumer.snapshot
        assert.deepStrictEqual(outcomes, ended({}), how)
        assert.strictEqual(released, 4, how)
        assert.deepInclude(held, { records: 0, bytes: 0 }, how)
      }
    })
  )

  it.effect("a record that is parked while its partition drains keeps nobody waiting, and comes again", () =>
    Effect.gen(function* () {
      const s = yield* opened()
      const reply = yield* s.session.revoking([at(0, 1)], { exact: true })
      yield* s.desk.finish(0, 1, 2, 3)
      assert.isFalse(reply.answered())
      yield* fail(s, 0)
      assert.isTrue(reply.answered())
      const { held, outcomes, released } = yield* s.consumer.snapshot
      assert.deepStrictEqual(outcomes, ended({ handled: 3 }))
      assert.strictEqual(released, 1)
      assert.deepInclude(held, { records: 0, bytes: 0 })
    })
  )

  it.effect(
    "I6: what is parked, and what waits behind it, counts as held, and where nothing else is held the longest parked goes",
    () =>
      Effect.gen(function* () {
        for (const ordering of ["partition", "unordered"] as const) {
          yield* Effect.scoped(
            Effect.gen(function* () {
              const w = yield* world({ maxChunk: 10, maxFetchRecords: 10 })
              w.expect("passedOver")
              yield* w.produce(400)
              const fails = (offset: bigint) => (ordering === "partition" ? offset % 100n === 0n : offset % 2n === 0n)
              const a = yield* w.member("a", {
                ordering,
                maxHeldRecords: 50,
                handler: Handler.make("t", ({ offset }) => (fails(offset) ? Effect.fail(new Boom()) : Effect.sleep(1))),
                policy: parks(skip).policy
              })
              let most = 0
              for (let i = 0; i < 500; i++) {
                yield* pass(10)
                most = Math.max(most, (yield* partition(a)).heldRecords)
              }
              assert.isAtLeast(most, 50)
              assert.isAtMost(most, 60)
              const { buffered, delivered, parked } = yield* partition(a)
              assert.strictEqual(delivered, 400n)
              const { handled, skipped } = yield* outcomes(a)
              assert.strictEqual(handled + skipped + parked + buffered, 400)
              if (ordering === "partition") assert.isAtMost(buffered, 100)
              else assert.isAbove(parked, 20)
            })
          )
        }
      })
  )

  it.effect("a parked record that more than maxUncommitted others wait for is decided about", () =>
    Effect.gen(function* () {
      const letters = new Letters()
      const s = yield* opened(
        {
          maxUncommitted: 100,
          producer: letters.producer,
          policy: parks({ _tag: "DeadLetter", topic: "dead" }).policy,
          handler: Handler.make("t", ({ offset }) => (offset % 150n === 0n ? Effect.fail(new Boom()) : Effect.void))
        },
        280
      )
      yield* pass(1)
      assert.deepInclude(yield* partition(s), { parked: 0, sending: 1, buffered: 180, paused: ["uncommitted"] })
      yield* letters.answer(taken)
      yield* pass(1)
      // 150 is parked, and less than 100 and 30 wait for it
      assert.deepInclude(yield* partition(s), { parked: 0, sending: 1, committable: 150n, buffered: 30 })
      yield* letters.answer(taken)
      yield* pass(1)
      assert.deepInclude(yield* partition(s), { parked: 0, committable: 280n, paused: [] })
      assert.deepStrictEqual(yield* outcomes(s), ended({ handled: 278, deadLettered: 2 }))
    })
  )

  it.effect(
    "of the parked records only the lowest goes for maxUncommitted, while its dead letter is on its way too",
    () =>
      Effect.gen(function* () {
        const letters = new Letters()
        const desk = new Desk()
        const s = yield* opened(
          {
            maxUncommitted: 10,
            desk,
            producer: letters.producer,
            policy: parks({ _tag: "DeadLetter", topic: "dead" }).policy,
            handler: Handler.make("t", (record) =>
              record.offset === 5n
                ? desk.handle(record)
                : record.offset % 3n === 0n
                  ? Effect.fail(new Boom())
                  : Effect.void
            )
          },
          15
        )
        yield* pass(1)
        const stands = { parked: 3, sending: 1, buffered: 5, paused: ["uncommitted" as const] }
        assert.deepInclude(yield* partition(s), { ...stands, running: 1 })
        yield* s.desk.finish(0, 5)
        yield* pass(1)
        assert.deepInclude(yield* partition(s), { ...stands, running: 0 })
        assert.deepStrictEqual(
          letters.sends.map(({ record }) => record.value),
          [new TextEncoder().encode("v0")]
        )
      })
  )

  it.effect("a record that is parked while more than maxUncommitted others wait for it is decided about at once", () =>
    Effect.gen(function* () {
      const s = yield* waitingForFirst
      yield* fail(s, 0)
      yield* pass(1)
      assert.deepInclude(yield* partition(s), { parked: 0, committable: 150n })
      assert.deepStrictEqual(yield* outcomes(s), ended({ handled: 149, skipped: 1 }))
    })
  )

  it.effect("for maxUncommitted a parked record goes only where it is what the others wait for", () =>
    Effect.gen(function* () {
      const desk = new Desk()
      const s = yield* opened(
        {
          maxUncommitted: 10,
          desk,
          handler: Handler.make("t", (record) =>
            record.offset === 0n ? desk.handle(record) : record.offset === 3n ? Effect.fail(new Boom()) : Effect.void
          )
        },
        40
      )
      yield* pass(1)
      assert.deepInclude(yield* partition(s), { running: 1, parked: 1, paused: ["uncommitted"] })
      yield* s.desk.finish(0, 0)
      yield* pass(1)
      assert.deepInclude(yield* partition(s), { running: 0, parked: 0, committable: 40n })
    })
  )

  it.effect("parked while its partition rejoins, and maxUncommitted others wait for it: decided when it is back", () =>
    Effect.gen(function* () {
      const s = yield* waitingForFirst
      yield* s.session.revoking([at(0, 1)], { exact: false })
      yield* fail(s, 0)
      yield* pass(1_000)
      assert.deepInclude(yield* partition(s), { state: "suspended", parked: 1 })
      yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 0 }])
      yield* pass(1)
      assert.deepInclude(yield* partition(s), { parked: 0, committable: 150n, paused: [] })
    })
  )

  it.effect("the map fills up while its partition rejoins: parked records go when it is back", () =>
    Effect.gen(function* () {
      const desk = new Desk()
      const s = yield* opened(
        {
          desk,
          concurrency: "unbounded",
          maxHeldRecords: 100_000,
          policy: parks(skip, { atMost: 5_000 }).policy,
          handler: Handler.make("t", (record) =>
            record.offset % 60n === 0n
              ? Effect.fail(new Boom())
              : record.offset >= 15_000n
                ? desk.handle(record)
                : Effect.void
          )
        },
        20_000
      )
      yield* pass(2_000)
      const before = yield* partition(s)
      assert.deepStrictEqual(before.paused, [])
      yield* s.session.revoking([at(0, 1)], { exact: false })
      yield* s.desk.finishAll()
      yield* pass(1_000)
      assert.include((yield* partition(s)).paused, "map")
      const metadata = s.session.sent.at(-1)?.entries[0]?.metadata ?? ""
      yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 0, metadata }])
      yield* s.session.chunk(0, 1, 20_000, 21_000)
      yield* s.desk.finishAll()
      yield* pass(1)
      const after = yield* partition(s)
      assert.deepInclude(after, { paused: [], buffered: 0, running: 0 })
      assert.isBelow(after.parked, before.parked)
    })
  )

  it.effect("a former owner's map brings it to maxUncommitted: the parked record in front goes", () =>
    Effect.gen(function* () {
      const s = yield* scripted({
        policy: parks(skip).policy,
        maxUncommitted: 1_000,
        handler: Handler.make("t", ({ offset }) => (offset === 0n ? Effect.fail(new Boom()) : Effect.void))
      })
      const { metadata } = OffsetMap.encode({ topic: "t", partition: 0, base: 0n, runs: [10, 5_000], limit: 4_096 })
      s.session.log = { start: 0n, end: 100_000n }
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0, metadata }])
      const chunk = (from: number, to: number) =>
        s.session.signal({
          _tag: "Chunk",
          ...at(0, 1),
          records: Array.from({ length: to - from }, (_, i) => recordAt(0, from + i)),
          nextOffset: BigInt(to),
          end: 100_000n
        })
      yield* chunk(0, 5)
      yield* pass(1)
      assert.deepInclude(yield* partition(s), { parked: 1, paused: [] })
      yield* chunk(5, 5_000)
      yield* pass(1)
      assert.deepInclude(yield* partition(s), { parked: 0, committable: 5_000n, paused: [] })
      assert.deepStrictEqual([...s.session.paused], [])
    })
  )

  // ------------------------------------------------------------------ decisions that nobody can carry out

  for (const [title, decision] of [
    [
      "a dead letter after a refused dead letter",
      { _tag: "DeadLetter", topic: "dead", then: { _tag: "DeadLetter", topic: "dead-too" } }
    ],
    ["parking after parking", { _tag: "Park", limits: { atMostFor: 10 }, then: { _tag: "Park", then: skip } }]
  ] as const) {
    it.effect(`a policy without types that says ${title} stops the consumer; nothing is held, no lane is kept`, () =>
      Effect.gen(function* () {
        const s = yield* opened({
          ordering: "partition",
          producer: new Letters({ always: refused }).producer,
          policy: FailurePolicy.make((_: Failure<Boom>) => decision as unknown as Decision.Skip),
          handler: Handler.make("t", () => Effect.fail(new Boom()))
        })
        yield* pass(100)
        const { reason } = yield* errorOf(s)
        assert.strictEqual(reason._tag, "Stopped")
        if (reason._tag === "Stopped") assert.include(String(reason.cause), "Decision.then")
        assert.strictEqual((yield* s.consumer.snapshot).held.records, 0)
        yield* s.close
      })
    )
  }

  // ------------------------------------------------------------------ the offset map

  it.effect("a policy that parks is refused where there is no offset map, when it is given", () =>
    Effect.gen(function* () {
      const policies: Record<string, FailurePolicy<unknown, KafkaProducer>> = {
        park: FailurePolicy.park().pipe(FailurePolicy.orSkip),
        orPark: FailurePolicy.retry(Schedule.recurs(1)).pipe(
          FailurePolicy.orPark(),
          FailurePolicy.orDeadLetter("dead")
        ),
        orElse: FailurePolicy.retry(Schedule.recurs(1)).pipe(
          FailurePolicy.orElse(FailurePolicy.park().pipe(FailurePolicy.orStop))
        )
      }
      for (const [title, policy] of Object.entries(policies)) {
        const w = yield* world()
        const build = (client: { readonly commitMetadata?: boolean }, offsetMap: "own" | "all" | "off") =>
          Layer.build(
            ConcurrentConsumer.layerHandler(
              Handler.make("t", () => Effect.fail(new Boom())),
              { groupId: "g", onFailure: policy, offsetMap }
            ).pipe(
              Layer.provide(Layer.succeed(KafkaClient, w.kafka.client(client))),
              Layer.provide(Layer.succeed(KafkaProducer, KafkaProducer.fromProducer(new Letters().producer)))
            )
          )
        assert.deepInclude(
          yield* Effect.flip(build({}, "off")),
          { _tag: "InvalidOptions", option: "offsetMap", value: "off" },
          title
        )
        assert.deepInclude(
          yield* Effect.flip(build({ commitMetadata: false }, "own")),
          { _tag: "InvalidOptions", option: "onFailure.parks" },
          title
        )
        yield* build({}, "all")

        const off = yield* errorOf(yield* scripted({ policy, offsetMap: "off" }))
        assert.strictEqual(off.reason._tag === "Options" && off.reason.error.option, "offsetMap", title)
        const s = yield* scripted({ policy, capabilities: { commitMetadata: false } })
        const unable = yield* errorOf(s)
        assert.strictEqual(unable.reason._tag === "Options" && unable.reason.error.option, "onFailure.parks", title)
        assert.strictEqual(s.session.joins, 0)
      }
    })
  )

  it.effect("where a function says park and there is no offset map, what comes after parking is done at once", () =>
    Effect.gen(function* () {
      for (const none of [{ offsetMap: "off" }, { capabilities: { commitMetadata: false } }] as const) {
        const letters = new Letters({ always: taken })
        const answers: ReadonlyArray<Decision.Park["then"]> = [
          skip,
          { _tag: "DeadLetter", topic: "dead" },
          { _tag: "Retry", after: 1 },
          { _tag: "Stop" }
        ]
        const s = yield* opened({
          ...none,
          producer: letters.producer,
          policy: FailurePolicy.make(({ record }) => ({ _tag: "Park", then: answers[Number(record.offset)]! }))
        })
        yield* fail(s, 0, 1, 2)
        assert.deepInclude(yield* partition(s), { parked: 0, waiting: 1, committable: 2n })
        assert.deepStrictEqual(yield* outcomes(s), ended({ skipped: 1, deadLettered: 1 }))
        yield* fail(s, 3)
        assert.deepInclude((yield* errorOf(s)).reason, { _tag: "Stopped", offset: 3n })
      }
    })
  )

  it.effect("limits that are none stop the consumer", () =>
    Effect.gen(function* () {
      for (const limits of [{ atMost: 0 }, { atMost: 1.5 }, { atMostFor: 0 }, { atMostFor: "Infinity" }] as const) {
        const s = yield* opened({ policy: FailurePolicy.make(() => ({ _tag: "Park", limits, then: skip })) })
        yield* fail(s, 0)
        assert.deepInclude((yield* errorOf(s)).reason, { _tag: "Stopped", offset: 0n })
        assert.deepStrictEqual(yield* outcomes(s), ended({}))
      }
    })
  )
})
