/** A handler on threads in a consumer, which must not see a difference: order, retries, dead letters, interruption, permits. */
import { FailurePolicy } from "@concurrent-kafka/core/FailurePolicy"
import { Handler } from "@concurrent-kafka/core/Handler"
import { TestKit } from "@concurrent-kafka/testing"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { WorkerPool, type WorkerPoolOptions } from "../src/WorkerPool.ts"
import * as Jobs from "./modules/jobs.worker.ts"
import { moduleUrl, open, until } from "./support.ts"

class OnThreads extends WorkerPool.Tag<OnThreads, typeof Jobs>()("test/OnThreads") {}

const layer = (options: Partial<WorkerPoolOptions>) =>
  OnThreads.layer({ module: moduleUrl("jobs"), error: Jobs.error, ...options })

const handler = Handler.make("jobs", OnThreads.handle)
const tried = FailurePolicy.retry(Schedule.recurs(2)).pipe(FailurePolicy.orDeadLetter("jobs.dead-letter"))

const quiet = Effect.provideService(References.MinimumLogLevel, "None")

describe("a handler on threads, in a consumer", () => {
  it.live("handles the records of a key one after another, and those of other keys beside them", () =>
    Effect.gen(function* () {
      const { all, groupId, next, release } = yield* open
      const kit = yield* TestKit.make(handler, {
        groupId,
        ordering: "key",
        concurrency: 10,
        batchInterval: "100 millis",
        onFailure: FailurePolicy.stop
      })
      // of three keys in turn; the first record of each is let go when all three have begun, last first
      yield* kit.produce(
        "jobs",
        Array.from({ length: 30 }, (_, i) => ({ key: `${i % 3}`, value: i < 3 ? "hold" : ":" }))
      )
      for (let i = 0; i < 3; i++) yield* next("begun")
      assert.strictEqual(all.length, 3)
      for (const offset of [2n, 1n, 0n]) yield* release(offset)
      yield* kit.caughtUp({ within: "50 seconds" })
      yield* kit.expectOnce
      for (const key of [0, 1, 2]) {
        const ofKey = all.filter(({ offset }) => Number(offset) % 3 === key)
        const inOrder = Array.from({ length: 10 }, (_, i) => i * 3 + key).flatMap((i) => [`begun ${i}`, `ended ${i}`])
        assert.deepStrictEqual(
          ofKey.map(({ offset, what }) => `${what} ${offset}`),
          inOrder
        )
      }
    }).pipe(Effect.scoped, Effect.provide(layer({ size: 3 })))
  )

  it.live("is retried after a crash, and its record is dead-lettered in the end, while the others are handled", () =>
    Effect.gen(function* () {
      const { all, groupId } = yield* open
      const kit = yield* TestKit.make(handler, { groupId, batchInterval: "100 millis", onFailure: tried })
      yield* kit.produce(
        "jobs",
        Array.from({ length: 10 }, (_, i) => ({ value: i === 4 ? "exit:9" : i === 5 ? "throw:why" : ":" }))
      )
      yield* kit.caughtUp({ within: "50 seconds" })
      yield* kit.expectDeadLetters("jobs", ["exit:9", "throw:why"])
      const letters = yield* kit.deadLetters("jobs")
      assert.deepStrictEqual(
        letters
          .map(({ letter: { attempts, error } }) => ({ attempts, error }))
          .toSorted((a, b) => (a.error < b.error ? -1 : 1)),
        [
          { attempts: 3, error: "BadJob" },
          { attempts: 3, error: "WorkerCrashed" }
        ]
      )
      assert.strictEqual((yield* kit.records("jobs", "handled")).length, 8)
      for (let offset = 0n; offset < 10n; offset++) {
        const attempts = all.filter((told) => told.offset === offset && told.what === "begun")
        // none of the others paid for it
        assert.strictEqual(attempts.length, offset === 4n || offset === 5n ? 3 : 1)
      }
      assert.deepInclude(yield* Effect.flatMap(OnThreads, ({ snapshot }) => snapshot), { crashed: 3, terminated: 0 })
    }).pipe(Effect.scoped, Effect.provide(layer({ size: 2 })), quiet)
  )

  it.live("is not committed past when it is interrupted, and comes again", () =>
    Effect.gen(function* () {
      const { all, groupId, next } = yield* open
      const pool = yield* OnThreads
      const kit = yield* TestKit.make(handler, { groupId, onFailure: tried, offsetMap: "off" })
      yield* kit.produce("jobs", [{ value: ":" }, { value: "spin:600000" }, { value: ":" }, { value: ":" }])
      const ended = new Set<bigint>()
      while (ended.size < 3) ended.add((yield* next("ended")).offset)
      yield* kit.restart
      yield* kit.expectCommitted("jobs", [1n])
      assert.strictEqual((yield* pool.snapshot).terminated, 1)
      const [, spinning] = yield* kit.records("jobs")
      assert.strictEqual(spinning!.attempts[0]!.end, "interrupted")
      let again = yield* next("begun")
      while (again.offset !== 1n) again = yield* next("begun")
      assert.strictEqual(again.attempt, 1)
      assert.isFalse(all.some(({ offset, what }) => offset === 1n && what === "ended"))
    }).pipe(Effect.scoped, Effect.provide(layer({ size: 2 })))
  )

  it.live("ends in its middle by Handler.timeout, though it computes", () =>
    Effect.gen(function* () {
      const { groupId } = yield* open
      const kit = yield* TestKit.make(handler.pipe(Handler.timeout("300 millis")), {
        groupId,
        batchInterval: "100 millis",
        onFailure: FailurePolicy.deadLetter("jobs.dead-letter")
      })
      yield* kit.produce("jobs", [{ value: "spin:600000" }, { value: ":" }])
      yield* kit.caughtUp({ within: "50 seconds" })
      const [letter] = yield* kit.deadLetters("jobs")
      assert.strictEqual(letter!.letter.error, "HandlerTimeout")
    }).pipe(Effect.scoped, Effect.provide(layer({ size: 2 })))
  )

  it.live("gives none of its records to the policy when its pool closes before it does", () =>
    Effect.gen(function* () {
      const { groupId, next } = yield* open
      const scope = yield* Scope.make()
      const pool = yield* WorkerPool.make<typeof Jobs>({ module: moduleUrl("jobs"), error: Jobs.error, size: 1 }).pipe(
        Scope.provide(scope)
      )
      const kit = yield* TestKit.make(Handler.make("jobs", pool.handle), {
        groupId,
        concurrency: 3,
        onFailure: FailurePolicy.deadLetter("jobs.dead-letter")
      })
      yield* kit.produce(
        "jobs",
        Array.from({ length: 5 }, () => ({ value: "hold" }))
      )
      yield* next("begun")
      yield* until(pool.snapshot, ({ waiting }) => waiting === 2)
      yield* Scope.close(scope, Exit.void)
      yield* kit.restart
      yield* kit.expectCommitted("jobs", [0n])
      yield* kit.expectDeadLetters("jobs", [])
      const records = yield* kit.records("jobs")
      assert.deepStrictEqual(
        records.slice(0, 3).map(({ attempts }) => attempts[0]!.end),
        ["interrupted", "interrupted", "interrupted"]
      )
    }).pipe(Effect.scoped)
  )

  it.live("has no more jobs than there are permits, those included that wait for a thread", () =>
    Effect.gen(function* () {
      const { groupId, next, release } = yield* open
      const pool = yield* OnThreads
      const kit = yield* TestKit.make(handler, {
        groupId,
        concurrency: 4,
        batchInterval: "100 millis",
        onFailure: tried
      })
      yield* kit.produce(
        "jobs",
        Array.from({ length: 50 }, () => ({ value: "hold" }))
      )
      for (let offset = 0n; offset < 50n; offset++) {
        assert.strictEqual((yield* next("begun")).offset, offset)
        // the permit of the one before is given to the next a turn later
        const held = Math.min(4, 50 - Number(offset))
        let now = yield* pool.snapshot
        while (now.busy + now.waiting < held) {
          yield* Effect.promise(() => new Promise(setImmediate))
          now = yield* pool.snapshot
        }
        assert.deepInclude(now, { busy: 1, waiting: held - 1 })
        const [consumer] = yield* kit.snapshots
        assert.strictEqual(consumer!.permits.used, held)
        yield* release(offset)
      }
      yield* kit.caughtUp({ within: "50 seconds" })
      yield* kit.expectOnce
    }).pipe(Effect.scoped, Effect.provide(layer({ size: 1 })))
  )
})
