import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ConsumerRecord } from "../src/ConsumerRecord.ts"
import { FailurePolicy } from "../src/FailurePolicy.ts"
import { type HealthCode, healthCodes, type HealthReason, LoopDelay } from "../src/Health.ts"
import { KafkaClientError } from "../src/KafkaClient.ts"
import { Boom, Desk, pass, passUntil, turns, whileTimePasses, world } from "./harness.ts"
import { Letters, retriable, taken } from "./letters.ts"
import { at, given, later, outcomes, type Scripted, scripted } from "./script.ts"

const caused = new Set<HealthCode>()
const stubborn = () => new Desk({ around: (_, wait) => Effect.uninterruptible(wait) })

type Verdict = readonly [status: "ok" | "degraded" | "down", live: boolean, ready: boolean]

/** exactly this code, and what it means for the whole */
const says = (
  s: Pick<Scripted, "consumer">,
  code: HealthCode,
  [status, live, ready]: Verdict
): Effect.Effect<HealthReason> =>
  Effect.map(s.consumer.health, (health) => {
    assert.deepStrictEqual(
      health.reasons.map((reason) => reason.code),
      [code]
    )
    assert.deepInclude(health, { status, live, ready })
    assert.isAbove(health.reasons[0]!.message.length, 5)
    caused.add(code)
    return health.reasons[0]!
  })

const well = (s: Pick<Scripted, "consumer">) =>
  Effect.map(s.consumer.health, (health) =>
    assert.deepStrictEqual(health, { status: "ok", live: true, ready: true, reasons: [] })
  )

const open = (s: Scripted) => s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])

describe("health", () => {
  it.effect("disabled: live and ready; goes with the switch, which is not turned while the process runs", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ enabled: false })
      yield* pass(60_000)
      yield* says(s, "disabled", ["ok", true, true])
      // enabled: the code is not there
      const t = yield* scripted()
      yield* open(t)
      yield* well(t)
    })
  )

  it.effect("starting: never had an assignment; taken away by the first one", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* says(s, "starting", ["degraded", true, false])
      yield* open(s)
      yield* well(s)
    })
  )

  it.effect("standby: a member without partitions; taken away by an assignment with some", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* pass(5)
      yield* s.session.assign([])
      assert.strictEqual((yield* says(s, "standby", ["ok", true, true])).since, 5)
      yield* open(s)
      yield* well(s)
    })
  )

  it.effect("opening: the start is being established, degraded once that has failed; taken away when it is known", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      const late = later()
      s.session.answers.push(outcomes("retriable", "NOT_COORDINATOR"), late.answer)
      s.session.log = Effect.as(Effect.sleep(10), [{ topic: "t", partition: 0, start: 0n, end: 0n }])
      yield* s.session.assign([{ partition: 0, epoch: 1 }])
      yield* says(s, "opening", ["ok", true, true])
      yield* pass(600)
      yield* says(s, "opening", ["degraded", true, true])
      yield* late.give()
      yield* well(s)
    })
  )

  it.effect("rebalancing: being revoked, suspended; taken away by the assignment", () =>
    Effect.gen(function* () {
      const s = yield* given([1])
      yield* s.session.revoking([at(0, 1)], { exact: false })
      const announced = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      yield* says(s, "rebalancing", ["ok", true, true])
      yield* pass(100)
      assert.strictEqual((yield* says(s, "rebalancing", ["ok", true, true])).since, announced)
      yield* s.desk.finish(0, 0)
      assert.strictEqual((yield* says(s, "rebalancing", ["ok", true, true])).count, 1)
      yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 1 }])
      yield* well(s)
    })
  )

  it.effect("paused: by the user; taken away by resume", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* open(s)
      yield* pass(7)
      yield* s.consumer.pause()
      assert.strictEqual((yield* says(s, "paused", ["ok", true, true])).since, 7)
      yield* s.consumer.resume()
      yield* well(s)
    })
  )

  it.effect("idle: run was interrupted; taken away by the next run", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* open(s)
      yield* pass(5_000)
      yield* s.interrupt
      yield* says(s, "idle", ["ok", true, true])
      yield* pass(2_000)
      yield* s.run
      yield* says(s, "starting", ["degraded", true, false])
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
      yield* well(s)
    })
  )

  it.effect("starting: in a later run since that was called, unless no run before had an assignment", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* pass(10)
      yield* s.interrupt
      yield* s.run
      const never = yield* says(s, "starting", ["degraded", true, false])
      assert.deepInclude(never, { since: 0, message: "never had an assignment yet" })
      yield* open(s)
      yield* pass(3_600_000)
      yield* s.interrupt
      yield* pass(5)
      yield* s.run
      yield* pass(7)
      const again = yield* says(s, "starting", ["degraded", true, false])
      assert.strictEqual(again.since, 3_600_015)
      assert.notInclude(again.message, "never")
    })
  )

  it.effect(
    "stuck: an attempt runs longer than stuckAfter; taken away when it ends; D51: restarting would not help, so live stays",
    () =>
      Effect.gen(function* () {
        const s = yield* given([3], { stuckAfter: "60 seconds" })
        yield* pass(59_999)
        yield* well(s)
        yield* pass(1)
        const reason = yield* says(s, "stuck", ["degraded", true, true])
        assert.deepInclude(reason, { count: 3, since: 0, at: { topic: "t", partition: 0, offset: 0n } })
        yield* s.desk.finishAll()
        yield* well(s)
      })
  )

  it.effect(
    "retrying: failed, and waiting for a retry or running again; taken away when it is handled, or released",
    () =>
      Effect.gen(function* () {
        const s = yield* given([3], { policy: FailurePolicy.make(() => ({ _tag: "Retry", after: 1_000 })) })
        yield* pass(5)
        yield* s.desk.end(0, 1, Exit.fail(new Boom()))
        yield* pass(5)
        yield* s.desk.end(0, 0, Exit.fail(new Boom()))
        assert.deepInclude(yield* says(s, "retrying", ["degraded", true, true]), {
          count: 2,
          since: 5,
          at: { topic: "t", partition: 0, offset: 1n }
        })
        const [partition] = (yield* s.consumer.snapshot).partitions
        assert.deepInclude(partition!, { waiting: 2, running: 1, buffered: 0, heldRecords: 3 })
        // the oldest is not the longest waiting one
        assert.deepStrictEqual(partition!.oldest, {
          offset: 0n,
          state: "waiting",
          attempt: 1,
          since: 10,
          receivedAt: 0,
          firstFailedAt: 10,
          timestamp: 0n
        })
        yield* pass(1_000)
        // they run again: nothing is better for that, and the first attempts failed when they did
        const still = { count: 2, since: 5, at: { topic: "t", partition: 0, offset: 1n } }
        assert.deepInclude(yield* says(s, "retrying", ["degraded", true, true]), still)
        yield* s.desk.end(0, 1, Exit.fail(new Boom()))
        assert.deepInclude(yield* says(s, "retrying", ["degraded", true, true]), still)
        assert.deepInclude((yield* s.consumer.snapshot).partitions[0]!.oldest!, {
          offset: 0n,
          state: "running",
          attempt: 2,
          since: 1_010,
          receivedAt: 0,
          firstFailedAt: 10
        })
        yield* pass(1_000)
        yield* s.desk.finish(0, 1)
        assert.deepInclude(yield* says(s, "retrying", ["degraded", true, true]), { count: 1, since: 10 })
        yield* s.session.lost(at(0, 1))
        yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
        yield* well(s)
      })
  )

  it.effect(
    "retrying: of a record that fails each time, since its first failure, at every moment of five minutes",
    () =>
      Effect.gen(function* () {
        const s = yield* given([1], { policy: FailurePolicy.make(() => ({ _tag: "Retry", after: 4_000 })) })
        yield* pass(1_000)
        yield* s.desk.end(0, 0, Exit.fail(new Boom()))
        for (let i = 0; i < 60; i++) {
          assert.strictEqual((yield* says(s, "retrying", ["degraded", true, true])).since, 1_000)
          yield* pass(4_000)
          assert.strictEqual((yield* says(s, "retrying", ["degraded", true, true])).since, 1_000)
          const { oldest } = (yield* s.consumer.snapshot).partitions[0]!
          assert.deepInclude(oldest!, { state: "running", attempt: i + 2, receivedAt: 0, firstFailedAt: 1_000 })
          yield* pass(1_000)
          yield* s.desk.end(0, 0, Exit.fail(new Boom()))
        }
        yield* pass(4_000)
        yield* s.desk.finish(0, 0)
        yield* well(s)
      })
  )

  it.effect("retrying: not of a record whose first attempt has just failed, nor of one that is acknowledged", () =>
    Effect.gen(function* () {
      const decided = yield* Deferred.make<void>()
      const s = yield* given([2], {
        policy: FailurePolicy.make(({ record }) =>
          record.offset === 0n
            ? Effect.as(Deferred.await(decided), { _tag: "Skip" as const })
            : Effect.succeed({ _tag: "Retry" as const, after: 10 })
        )
      })
      yield* s.desk.end(0, 0, Exit.fail(new Boom()))
      yield* well(s)
      yield* Deferred.succeed(decided, undefined)
      yield* turns
      yield* s.desk.end(0, 1, Exit.fail(new Boom()))
      yield* pass(10)
      yield* says(s, "retrying", ["degraded", true, true])
      yield* s.desk.attempts.at(-1)!.record.ack
      yield* well(s)
      yield* s.desk.finish(0, 1)
    })
  )

  it.effect(
    "laneBound: for 10 s permits are free while records wait for others of their key; taken away when none waits; no key is told",
    () =>
      Effect.gen(function* () {
        const s = yield* scripted({ ordering: "key", concurrency: 5, stuckAfter: 600_000 })
        yield* open(s)
        yield* pass(7)
        yield* s.session.keyed(0, 1, 0, ["hot-key", "cold", "hot-key", "hot-key", null])
        yield* s.desk.finish(0, 1, 4)
        yield* pass(9_999)
        yield* well(s)
        yield* pass(1)
        const reason = yield* says(s, "laneBound", ["degraded", true, true])
        assert.deepInclude(reason, { since: 7, count: 2, at: { topic: "t", partition: 0 } })
        const { hotLanes, partitions } = yield* s.consumer.snapshot
        assert.strictEqual(hotLanes.length, 1)
        assert.deepInclude(hotLanes[0]!, { topic: "t", partition: 0, waiting: 2 })
        assert.include(reason.message, hotLanes[0]!.lane)
        assert.notInclude(reason.message + JSON.stringify(hotLanes), "hot")
        assert.deepInclude(partitions[0]!, { buffered: 2, waiting: 0 })
        assert.deepInclude(partitions[0]!.oldest!, { offset: 0n, state: "running" })
        yield* s.desk.finish(0, 0)
        assert.strictEqual((yield* s.consumer.snapshot).hotLanes[0]!.waiting, 1)
        yield* s.desk.finish(0, 2)
        // the last one runs, and nobody waits for it
        yield* well(s)
        assert.deepStrictEqual((yield* s.consumer.snapshot).hotLanes, [])
        yield* s.desk.finish(0, 3)
      })
  )

  it.effect("laneBound: not while permits are short, the partition is paused, or the consumer closes", () =>
    Effect.gen(function* () {
      const s = yield* given([3], { ordering: () => "one", concurrency: 2, stuckAfter: 600_000, shutdown: "drain" })
      yield* s.consumer.setConcurrency(1)
      yield* pass(20_000)
      yield* well(s)
      yield* s.consumer.setConcurrency(2)
      // from here on a permit is free
      yield* pass(10_000)
      yield* says(s, "laneBound", ["degraded", true, true])
      yield* s.consumer.pause()
      yield* pass(20_000)
      yield* says(s, "paused", ["ok", true, true])
      yield* s.consumer.resume()
      yield* pass(9_999)
      yield* well(s)
      yield* pass(1)
      yield* says(s, "laneBound", ["degraded", true, true])
      yield* Effect.forkChild(s.close)
      yield* turns
      yield* says(s, "shuttingDown", ["ok", true, false])
      yield* s.desk.finishAll()
    })
  )

  it.effect(
    "hot lanes: the five with the most waiting records, by a name that is the same each time and tells no key",
    () =>
      Effect.gen(function* () {
        const keys = ["a", "b", "c", "d", "e", "f", "g"].map((letter) => `key-${letter}`)
        const s = yield* scripted({ ordering: "key", concurrency: 10 })
        yield* open(s)
        // the first of each runs, and then one more waits for each than for the one before
        yield* s.session.keyed(
          0,
          1,
          0,
          keys.flatMap((key, i) => Array.from({ length: i + 1 }, () => key))
        )
        const { hotLanes } = yield* s.consumer.snapshot
        assert.deepStrictEqual(
          hotLanes.map(({ waiting }) => waiting),
          [6, 5, 4, 3, 2]
        )
        assert.strictEqual(new Set(hotLanes.map(({ lane }) => lane)).size, 5)
        for (const { lane } of hotLanes) assert.match(lane, /^[0-9a-f]{8}$/)
        yield* s.desk.finish(0, 0)
        assert.deepStrictEqual((yield* s.consumer.snapshot).hotLanes, hotLanes)
        yield* s.session.lost(at(0, 1))
        assert.deepStrictEqual((yield* s.consumer.snapshot).hotLanes, [])
      })
  )

  it.effect("hot lanes and laneBound: with revealRecords by their keys, on one line", () =>
    Effect.gen(function* () {
      for (const revealRecords of [true, false, undefined]) {
        for (const ordering of ["key", ({ key }: ConsumerRecord) => new TextDecoder().decode(key!)] as const) {
          const s = yield* scripted({
            ordering,
            concurrency: 10,
            ...(revealRecords === undefined ? {} : { revealRecords })
          })
          yield* open(s)
          const keys = ["k\u00e4se-\u20ac", "forged\nline", "x".repeat(300)]
          yield* s.session.keyed(
            0,
            1,
            0,
            keys.flatMap((key, i) => Array.from({ length: 5 - i }, () => key))
          )
          yield* pass(11_000)
          const lanes = (yield* s.consumer.snapshot).hotLanes.map(({ lane }) => lane)
          const { message } = (yield* s.consumer.health).reasons.find(({ code }) => code === "laneBound")!
          if (revealRecords === true) {
            assert.deepStrictEqual(lanes, [keys[0], "forged line", `${"x".repeat(100)}...`])
            assert.include(message, `4 in ${keys[0]}, 3 in forged line`)
          } else {
            for (const lane of lanes) assert.match(lane, /^[0-9a-f]{8}$/)
            for (const key of keys) assert.notInclude(message, key.slice(0, 5))
          }
          yield* whileTimePasses(s.close)
        }
      }
    })
  )

  it.effect("lostToRetention: for an hour", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* open(s)
      yield* s.session.outOfRange(at(0, 1), 0, 10, 20)
      assert.strictEqual((yield* says(s, "lostToRetention", ["degraded", true, true])).count, 10)
      yield* pass(60 * 60 * 1_000 - 1)
      yield* says(s, "lostToRetention", ["degraded", true, true])
      yield* pass(1)
      yield* well(s)
    })
  )

  it.effect("zombie: degraded; with all permits held down and not live; taken away when the fibers end", () =>
    Effect.gen(function* () {
      const s = yield* given([1], { concurrency: 2, desk: stubborn() })
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
      yield* well(s)
      yield* pass(1_000)
      assert.deepInclude(yield* says(s, "zombie", ["degraded", true, true]), {
        count: 1,
        at: { topic: "t", partition: 0, offset: 0n }
      })
      yield* s.session.chunk(0, 2, 0, 1)
      yield* s.session.assign([{ partition: 0, epoch: 3, committed: 0 }])
      yield* pass(1_000)
      yield* says(s, "zombie", ["down", false, true])
      for (const attempt of s.desk.attempts) attempt.end(Exit.void)
      yield* turns
      yield* well(s)
    })
  )

  it.effect(
    "eventLoopBlocked: the event loop stood still for a second in the last minute; taken away when it did not",
    () =>
      Effect.gen(function* () {
        let longest: ReturnType<LoopDelay["longestUnsafe"]>
        const s = yield* Effect.provideService(scripted(), LoopDelay, { longestUnsafe: () => longest })
        yield* open(s)
        yield* well(s)
        longest = { millis: 999, at: 5 }
        yield* well(s)
        longest = { millis: 1_234.5, at: 7 }
        const reason = yield* says(s, "eventLoopBlocked", ["degraded", true, true])
        assert.deepInclude(reason, { since: 7, count: 1 })
        assert.include(reason.message, "1235 ms")
        longest = undefined
        yield* well(s)
      })
  )

  it.effect("commitsFailing: from the third failure in a row; a success takes it away; D51: live and ready stay", () =>
    Effect.gen(function* () {
      const s = yield* given([2], { batchSize: 1 })
      s.session.answers.push(...Array.from({ length: 3 }, () => outcomes("retriable", "COORDINATOR_NOT_AVAILABLE")))
      yield* s.desk.finish(0, 0)
      yield* well(s)
      yield* pass(125)
      yield* well(s)
      yield* pass(250)
      assert.strictEqual((yield* says(s, "commitsFailing", ["down", true, true])).count, 3)
      yield* pass(1_000)
      yield* well(s)
    })
  )

  it.effect(
    "commitsFailing is taken away too when there is nothing left to commit: the partitions have gone to another member",
    () =>
      Effect.gen(function* () {
        const s = yield* given([2], { batchSize: 1 })
        s.session.answers.push(...Array.from({ length: 30 }, () => outcomes("retriable", "NOT_COORDINATOR")))
        yield* s.desk.finish(0, 0)
        yield* pass(1_000)
        yield* says(s, "commitsFailing", ["down", true, true])
        yield* s.session.lost(at(0, 1))
        yield* s.session.assign([])
        yield* pass(60_000)
        yield* says(s, "standby", ["ok", true, true])
        // nor do failures of long ago count for what comes later
        s.session.answers.length = 0
        yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
        yield* s.session.chunk(0, 2, 0, 1)
        s.session.answers.push(outcomes("retriable", "NOT_COORDINATOR"))
        yield* s.desk.finish(0, 0)
        yield* well(s)
      })
  )

  it.effect("commitsFailing is taken away too when the partition whose commits failed goes, and others stay", () =>
    Effect.gen(function* () {
      const s = yield* given([0, 1], { batchSize: 1 })
      s.session.always = outcomes("retriable", "NO_ANSWER")
      yield* s.desk.finish(1, 0)
      yield* pass(1_000)
      yield* says(s, "commitsFailing", ["down", true, true])
      const revoke = yield* s.session.revoking([at(0, 1), at(1, 2)], { exact: false })
      yield* pass(3_000)
      assert.isTrue(revoke.answered())
      yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 0 }])
      yield* pass(60_000)
      yield* well(s)
    })
  )

  it.effect("commitsFailing is taken away too when a rebalance shows that all is committed", () =>
    Effect.gen(function* () {
      const s = yield* given([1], { batchSize: 1 })
      // the broker has it, and every answer is lost
      s.session.always = outcomes("retriable", "NO_ANSWER")
      yield* s.desk.finish(0, 0)
      yield* pass(1_000)
      yield* says(s, "commitsFailing", ["down", true, true])
      s.session.always = outcomes("deferred", "REBALANCE_IN_PROGRESS")
      const revoke = yield* s.session.revoking([at(0, 1)], { exact: false })
      yield* pass(3_000)
      assert.isTrue(revoke.answered())
      const { length } = s.session.sent
      yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 1 }])
      yield* pass(60_000)
      assert.lengthOf(s.session.sent, length)
      yield* well(s)
    })
  )

  for (const [code, reason] of [
    ["disconnected", "Connection"],
    ["disconnected", "Timeout"],
    ["protocolMismatch", "ProtocolMismatch"],
    ["topicMissing", "TopicMissing"]
  ] as const) {
    it.effect(
      `${code} (${reason}): not ready only before the first assignment; taken away when the client is up again`,
      () =>
        Effect.gen(function* () {
          const s = yield* scripted()
          const error = new KafkaClientError({ reason, detail: "because of this" })
          yield* s.session.connection("down", error)
          const before = yield* s.consumer.health
          assert.deepInclude(before, { status: "down", live: true, ready: false })
          assert.deepStrictEqual(
            before.reasons.map((r) => r.code),
            ["starting", code]
          )
          yield* s.session.connection("up")
          yield* open(s)
          yield* well(s)
          yield* pass(10)
          yield* s.session.connection("down", error)
          yield* pass(10)
          // told again: since the first
          yield* s.session.connection("down", error)
          const said = yield* says(s, code, ["down", true, true])
          assert.strictEqual(said.since, 10)
          assert.include(said.message, "because of this")
          yield* s.session.connection("up")
          yield* well(s)
        })
    )
  }

  it.effect("disconnected: trouble is of a membership; the next run is told of it anew", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* open(s)
      yield* s.session.connection("down")
      yield* s.interrupt
      yield* says(s, "idle", ["ok", true, true])
      yield* s.run
      yield* says(s, "starting", ["degraded", true, false])
      yield* s.session.connection("down")
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
      yield* says(s, "disconnected", ["down", true, true])
      yield* s.session.connection("up")
      yield* well(s)
    })
  )

  it.effect("disconnected without a cause", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* open(s)
      yield* s.session.connection("down")
      yield* says(s, "disconnected", ["down", true, true])
    })
  )

  it.effect("topicMissing: deleted; taken away when it is assigned again", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* open(s)
      yield* s.session.gone(at(0, 1), "recreated")
      yield* says(s, "topicMissing", ["down", true, true])
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
      yield* well(s)
    })
  )

  it.effect("committerDead: neither live nor ready; a new layer takes it away", () =>
    Effect.gen(function* () {
      const s = yield* given([1], { batchSize: 1 })
      s.session.answers.push(() => {
        throw new Error("broken")
      })
      yield* s.desk.finish(0, 0)
      yield* says(s, "committerDead", ["down", false, false])
      const t = yield* scripted()
      yield* open(t)
      yield* well(t)
    })
  )

  it.effect(
    "failed: the consumer ended by failure while its scope is open; neither live nor ready; a new layer takes it away",
    () =>
      Effect.gen(function* () {
        const s = yield* given([1])
        yield* s.desk.end(0, 0, Exit.fail(new Boom()))
        const reason = yield* says(s, "failed", ["down", false, false])
        assert.include(reason.message, "t/0 offset 0")
        yield* pass(3_600_000)
        yield* says(s, "failed", ["down", false, false])
      })
  )

  it.effect("shuttingDown: live, not ready; ends with the consumer", () =>
    Effect.gen(function* () {
      const s = yield* given([2], { shutdown: "drain" })
      yield* Effect.forkChild(s.close)
      yield* turns
      assert.strictEqual((yield* says(s, "shuttingDown", ["ok", true, false])).count, 2)
      yield* s.desk.finishAll()
      assert.notInclude(
        (yield* s.consumer.health).reasons.map((r) => r.code),
        "shuttingDown"
      )
    })
  )

  it.effect(
    "parked: records given up for this epoch; taken away with the epoch, or by what comes at the park limit",
    () =>
      Effect.gen(function* () {
        const s = yield* given([3], {
          stuckAfter: "1 hour",
          policy: FailurePolicy.park({ atMostFor: "1 minute" }).pipe(FailurePolicy.orSkip)
        })
        yield* pass(5)
        yield* s.desk.end(0, 1, Exit.fail(new Boom()))
        yield* pass(5)
        yield* s.desk.end(0, 0, Exit.fail(new Boom()))
        assert.deepInclude(yield* says(s, "parked", ["degraded", true, true]), {
          since: 5,
          count: 2,
          at: { topic: "t", partition: 0, offset: 1n }
        })
        yield* pass(59_995)
        assert.deepInclude(yield* says(s, "parked", ["degraded", true, true]), { since: 10, count: 1 })
        yield* pass(5)
        yield* well(s)
        yield* s.desk.end(0, 2, Exit.fail(new Boom()))
        yield* says(s, "parked", ["degraded", true, true])
        yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
        yield* well(s)
      })
  )

  it.effect("deadLetterFailing: a dead letter is not taken, or not answered; taken away when the broker has it", () =>
    Effect.gen(function* () {
      const letters = new Letters()
      const s = yield* given([2], { policy: FailurePolicy.deadLetter("dead"), producer: letters.producer })
      yield* pass(7)
      yield* s.desk.end(0, 1, Exit.fail(new Boom()))
      yield* well(s)
      yield* letters.answer(retriable)
      assert.deepInclude(yield* says(s, "deadLetterFailing", ["down", true, true]), {
        since: 7,
        count: 1,
        at: { topic: "t", partition: 0, offset: 1n }
      })
      yield* pass(200)
      yield* says(s, "deadLetterFailing", ["down", true, true])
      yield* letters.answer(taken)
      yield* well(s)

      yield* s.desk.end(0, 0, Exit.fail(new Boom()))
      yield* pass(9_999)
      yield* well(s)
      yield* pass(1)
      yield* says(s, "deadLetterFailing", ["down", true, true])
      yield* letters.answer(taken)
      yield* well(s)
    })
  )

  it.effect("the status is the worst of the reasons', live and ready hold when they hold for each", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ desk: stubborn(), concurrency: 1, stuckAfter: 10 })
      yield* open(s)
      yield* s.consumer.pause()
      yield* s.session.outOfRange(at(0, 1), 0, 10, 20)
      const health = yield* s.consumer.health
      assert.deepInclude(health, { status: "degraded", live: true, ready: true })
      assert.deepStrictEqual(
        health.reasons.map((r) => r.code),
        ["paused", "lostToRetention"]
      )
      yield* s.session.connection("down")
      assert.deepInclude(yield* s.consumer.health, { status: "down", live: true, ready: true })
    })
  )

  it.effect("readyNeeds and liveNeeds add codes", () =>
    Effect.gen(function* () {
      const s = yield* scripted({
        health: { readyNeeds: ["disconnected", "paused"], liveNeeds: ["stuck"] },
        stuckAfter: 1_000
      })
      yield* open(s)
      yield* s.consumer.pause()
      assert.deepInclude(yield* s.consumer.health, { status: "ok", live: true, ready: false })
      yield* s.consumer.resume()
      yield* s.session.chunk(0, 1, 0, 1)
      yield* pass(1_000)
      assert.deepInclude(yield* s.consumer.health, { status: "degraded", live: false, ready: true })
      yield* s.desk.finishAll()
      yield* well(s)
    })
  )

  it.effect("D51: a broker outage makes nobody restart: down, live, ready; all is well when it is back", () =>
    Effect.gen(function* () {
      for (const protocol of ["eager", "incremental"] as const) {
        const w = yield* world({ protocol })
        yield* w.produce(5)
        const a = yield* w.member("a")
        yield* w.kafka.brokerDown
        yield* a.desk.finish(0, 0, 1)
        yield* passUntil("noticed", () => false, 6_000, 1_000).pipe(
          Effect.ignore,
          Effect.catchDefect(() => Effect.void)
        )
        const during = yield* a.health
        assert.deepInclude(during, { status: "down", live: true, ready: true })
        assert.include(
          during.reasons.map((r) => r.code),
          "disconnected"
        )
        yield* w.kafka.brokerUp
        yield* pass(20_000)
        assert.deepStrictEqual(yield* a.codes, [])
        assert.strictEqual(w.committed(), 2)
        yield* a.desk.finishAll()
        yield* pass(20_000)
        assert.strictEqual(w.committed(), 5)
      }
    })
  )

  it("every code has been caused here", () => {
    assert.sameMembers([...caused], [...healthCodes])
  })
})
