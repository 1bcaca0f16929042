import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import type { ConsumerError } from "../src/ConsumerError.ts"
import { type Failure, FailurePolicy } from "../src/FailurePolicy.ts"
import { Handler } from "../src/Handler.ts"
import { type Boom, Desk, pass, turns, world, ended } from "./harness.ts"
import { at, given, scripted } from "./script.ts"

const foreign: ReadonlyArray<readonly [string, Effect.Effect<void>]> = [
  ["Effect.interrupt", Effect.interrupt],
  [
    "joining a fiber that was interrupted",
    Effect.gen(function* () {
      const fiber = yield* Effect.forkChild(Effect.never, { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      return yield* Fiber.join(fiber)
    })
  ],
  [
    "taking from a queue that was shut down",
    Effect.gen(function* () {
      const queue = yield* Queue.unbounded<void>()
      yield* Queue.shutdown(queue)
      return yield* Queue.take(queue)
    })
  ],
  [
    "awaiting a deferred that was interrupted",
    Effect.gen(function* () {
      const deferred = yield* Deferred.make<void>()
      yield* Deferred.interrupt(deferred)
      return yield* Deferred.await(deferred)
    })
  ]
]

describe("interruption", () => {
  for (const [title, effect] of foreign) {
    it.effect(`I7: an interruption that nobody asked for is a failure: ${title}`, () =>
      Effect.gen(function* () {
        const w = yield* world()
        w.expect("passedOver")
        yield* w.produce(100)
        const failures: Array<Failure<Boom>> = []
        const a = yield* w.member("a", {
          handler: Handler.make("t", (record) => (record.offset === 3n ? effect : Effect.void)),
          policy: FailurePolicy.make((failure: Failure<Boom>) => {
            failures.push(failure)
            return { _tag: "Skip" }
          })
        })
        yield* pass(20_000)
        assert.strictEqual(failures.length, 1)
        assert.deepInclude(failures[0], { kind: "interrupted", attempt: 1 })
        assert.isTrue(Cause.hasInterruptsOnly(failures[0]!.cause))
        assert.strictEqual(failures[0]!.error._tag, "None")
        // no hard boundary: the partition goes on
        assert.strictEqual(w.committed(), 100)
        const { outcomes } = yield* a.consumer.snapshot
        assert.deepStrictEqual(outcomes, ended({ handled: 99, skipped: 1 }))
      })
    )

    it.effect(`I7: without a policy it stops the consumer, as a defect does: ${title}`, () =>
      Effect.gen(function* () {
        const w = yield* world()
        yield* w.produce(5)
        const a = yield* w.member("a", {
          handler: Handler.make("t", (record) => (record.offset === 3n ? effect : Effect.never)),
          policy: "none"
        })
        const exit = yield* Fiber.await(a.fiber())
        const error = Cause.squash((exit as Exit.Failure<void, unknown>).cause) as ConsumerError
        assert.deepInclude(error.reason, { _tag: "Stopped", partition: 0, offset: 3n })
        assert.strictEqual(w.committed(), 0)
      })
    )
  }

  it.effect("I7: what the library interrupts is not done, is released, and is delivered again", () =>
    Effect.gen(function* () {
      const s = yield* given([3])
      yield* s.desk.finish(0, 0)
      yield* s.close
      assert.deepStrictEqual(s.session.commits, ["0=1"])
      const snapshot = yield* s.consumer.snapshot
      assert.deepInclude(snapshot, { interrupted: 2, released: 2, attempts: 3 })
      assert.strictEqual(snapshot.outcomes.handled, 1)
    })
  )

  it.effect(
    "a handler that catches its interruption and succeeds is not done: its exit is an interruption all the same",
    () =>
      Effect.gen(function* () {
        const s = yield* given([1], {
          handler: Handler.make("t", () => Effect.catchCause(Effect.never, () => Effect.void))
        })
        yield* s.close
        assert.deepStrictEqual(s.session.commits, [])
      })
  )

  it.effect(
    "uninterruptible work that finishes after its interruption is not done, unless it acknowledges as its last step",
    () =>
      Effect.gen(function* () {
        for (const acknowledges of [false, true]) {
          const s = yield* scripted({
            handler: Handler.make("t", (record) =>
              Effect.uninterruptible(Effect.andThen(Effect.sleep(100), acknowledges ? record.ack : Effect.void))
            )
          })
          yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
          yield* s.session.chunk(0, 1, 0, 1)
          const closing = yield* Effect.forkChild(s.close)
          yield* pass(100)
          yield* Fiber.join(closing)
          assert.deepStrictEqual(s.session.commits, acknowledges ? ["0=1"] : [])
          assert.strictEqual((yield* s.consumer.snapshot).outcomes.handled, acknowledges ? 1 : 0)
        }
      })
  )

  it.effect("I10: acknowledged, and its fiber outlives its epoch: handled, and not released as well", () =>
    Effect.gen(function* () {
      const s = yield* scripted({
        handler: Handler.make("t", (record) =>
          record.offset === 0n ? Effect.andThen(record.ack, Effect.uninterruptible(Effect.sleep(60_000))) : Effect.never
        )
      })
      yield* s.session.assign([
        { partition: 0, epoch: 1, committed: 0 },
        { partition: 1, epoch: 2, committed: 5 }
      ])
      yield* s.session.chunk(0, 1, 0, 1)
      yield* s.session.chunk(1, 2, 5, 8)
      yield* s.session.lost(at(0, 1))
      // interruptGrace: it is left behind
      yield* pass(1_000)
      const look = Effect.map(s.consumer.snapshot, ({ held, outcomes, released }) => [
        outcomes.handled,
        released,
        held.records,
        held.bytes
      ])
      assert.deepStrictEqual(yield* look, [1, 0, 3, 6])
      yield* pass(60_000)
      assert.deepStrictEqual(yield* look, [1, 0, 3, 6])
    })
  )

  it.effect("a failure after the library's interruption is not asked about: it is usually caused by it", () =>
    Effect.gen(function* () {
      let asked = 0
      const s = yield* given([1], {
        desk: new Desk({ around: (_, wait) => Effect.onInterrupt(wait, () => Effect.die("while closing")) }),
        policy: FailurePolicy.make(() => {
          asked++
          return { _tag: "Skip" }
        })
      })
      yield* s.close
      assert.strictEqual(asked, 0)
      assert.deepStrictEqual(s.session.commits, [])
    })
  )

  it.effect("a policy that is being asked when the epoch ends is interrupted; the record is released", () =>
    Effect.gen(function* () {
      let cut = false
      const s = yield* scripted({
        policy: FailurePolicy.make(() => Effect.onInterrupt(Effect.never, () => Effect.sync(() => void (cut = true))))
      })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 1)
      yield* s.desk.end(0, 0, Exit.die("x"))
      assert.strictEqual((yield* s.consumer.snapshot).permits.used, 1)
      yield* s.session.lost(at(0, 1))
      assert.isTrue(cut)
      const snapshot = yield* s.consumer.snapshot
      assert.deepStrictEqual([snapshot.permits.used, snapshot.held.records, snapshot.released], [0, 0, 1])
    })
  )

  it.effect("finalizers of an interrupted handler run to their end, within interruptGrace", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const s = yield* scripted({
        handler: Handler.make("t", () =>
          Effect.gen(function* () {
            yield* Effect.addFinalizer(() =>
              Effect.andThen(
                Effect.sleep(300),
                Effect.sync(() => void seen.push("scope"))
              )
            )
            yield* Effect.onInterrupt(Effect.never, () =>
              Effect.andThen(
                Effect.sleep(300),
                Effect.sync(() => void seen.push("onInterrupt"))
              )
            )
          })
        )
      })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 1)
      yield* s.session.lost(at(0, 1))
      yield* pass(599)
      assert.deepStrictEqual(seen, ["onInterrupt"])
      assert.strictEqual((yield* s.consumer.snapshot).permits.used, 1)
      yield* pass(1)
      assert.deepStrictEqual(seen, ["onInterrupt", "scope"])
      assert.strictEqual((yield* s.consumer.snapshot).permits.used, 0)
      assert.strictEqual((yield* s.consumer.snapshot).permits.byZombies, 0)
      yield* turns
    })
  )

  it.effect("finalizers of a handler that has ended are not cut when its epoch ends meanwhile", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const s = yield* scripted({
        handler: Handler.make("t", () =>
          Effect.addFinalizer(() =>
            Effect.andThen(
              Effect.sleep(300),
              Effect.sync(() => void seen.push("finalizer"))
            )
          )
        )
      })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 1)
      yield* pass(100)
      yield* s.session.lost(at(0, 1))
      yield* pass(200)
      assert.deepStrictEqual(seen, ["finalizer"])
      const snapshot = yield* s.consumer.snapshot
      assert.strictEqual(snapshot.permits.used, 0)
      // it came too late to count: the record is delivered again, and counts then
      assert.strictEqual(snapshot.outcomes.handled, 0)
      assert.deepInclude(snapshot, { fenced: 1, released: 1 })
    })
  )
})
