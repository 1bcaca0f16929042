/** What a snapshot says of a partition: of what is done behind gaps, and of handlers that outlive their epoch. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { FailurePolicy } from "../src/FailurePolicy.ts"
import { Boom, Desk, pass, turns, world } from "./harness.ts"
import { given, type Scripted } from "./script.ts"

const later = FailurePolicy.make(() => ({ _tag: "Retry", after: 60_000 }))
const stubborn = () => new Desk({ around: (_, wait) => Effect.uninterruptible(wait) })

const only = (s: Pick<Scripted, "consumer">) =>
  Effect.map(s.consumer.snapshot, ({ partitions }) => {
    assert.lengthOf(partitions, 1)
    return partitions[0]!
  })

describe("a partition in a snapshot", () => {
  it.effect("gaps are records: 500 that wait for their retry in front of one that is done are 500", () =>
    Effect.gen(function* () {
      const s = yield* given([501], { policy: later, concurrency: 1_000 })
      for (let offset = 0; offset < 500; offset++) yield* s.desk.end(0, offset, Exit.fail(new Boom()))
      assert.deepInclude(yield* only(s), { gaps: 0, done: 0, behindGap: 0, committable: 0n, doneUpTo: 0n })
      yield* s.desk.finish(0, 500)
      assert.deepInclude(yield* only(s), { gaps: 500, done: 1, behindGap: 1, committable: 0n, doneUpTo: 501n })
      yield* pass(60_000)
      yield* s.desk.finishAll()
      assert.deepInclude(yield* only(s), { gaps: 0, done: 501, behindGap: 0, committable: 501n, doneUpTo: 501n })
    })
  )

  it.effect("with more runs than are told, all that is done behind a gap is counted, up to the newest", () =>
    Effect.gen(function* () {
      const s = yield* given([3_000], { policy: later, concurrency: 3_000 })
      for (let offset = 0; offset < 3_000; offset++) {
        if (offset % 10 === 0) yield* s.desk.end(0, offset, Exit.fail(new Boom()))
        else yield* s.desk.finish(0, offset)
      }
      const p = yield* only(s)
      assert.deepInclude(p, { gaps: 300, done: 2_700, behindGap: 2_700, committable: 0n, doneUpTo: 3_000n })
      assert.lengthOf(p.doneBehindGap, 256)
      assert.deepStrictEqual(p.doneBehindGap.at(-1), [2_551n, 2_560n])
      yield* pass(60_000)
      yield* s.desk.finishAll()
    })
  )

  it.effect("zombies of an epoch that is over are the partition's, until they end", () =>
    Effect.gen(function* () {
      const s = yield* given([2], { concurrency: 4, desk: stubborn() })
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
      yield* pass(1_000)
      assert.deepInclude(yield* only(s), { epoch: 2, zombies: 2, running: 0 })
      yield* s.session.assign([
        { partition: 0, epoch: 3, committed: 0 },
        { partition: 1, epoch: 4, committed: 0 }
      ])
      assert.deepStrictEqual(
        (yield* s.consumer.snapshot).partitions.map(({ partition, zombies }) => [partition, zombies]),
        [
          [0, 2],
          [1, 0]
        ]
      )
      s.desk.attempts[0]!.end(Exit.void)
      yield* turns
      assert.strictEqual((yield* s.consumer.snapshot).partitions[0]!.zombies, 1)
      s.desk.attempts[1]!.end(Exit.void)
      yield* turns
      assert.strictEqual((yield* s.consumer.snapshot).partitions[0]!.zombies, 0)
    })
  )

  it.effect("zombies of an earlier run are the partition's too", () =>
    Effect.gen(function* () {
      const s = yield* given([1], { desk: stubborn() })
      yield* Effect.forkChild(s.interrupt)
      yield* pass(1_000)
      yield* s.run
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
      assert.strictEqual((yield* only(s)).zombies, 1)
      s.desk.attempts[0]!.end(Exit.void)
      yield* turns
      assert.strictEqual((yield* only(s)).zombies, 0)
    })
  )

  it.effect("zombies of a member are the partition's where it has gone to another member", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 2 })
      for (let p = 0; p < 2; p++) yield* w.produce(1, p)
      const a = yield* w.member("a", { members: 2, desk: stubborn() })
      yield* pass(10_000)
      const [one] = w.kafka.sessionsUnsafe()
      const [lost] = one!.heldUnsafe()
      yield* one!.disconnect
      yield* pass(60_000)
      yield* one!.reconnect
      // of those members that have no zombie themselves
      const elsewhere = Effect.map(a.consumer.snapshot, ({ members }) =>
        members.flatMap(({ partitions, permits }) =>
          permits.byZombies > 0 ? [] : partitions.flatMap((p) => (p.partition === lost!.partition ? [p.zombies] : []))
        )
      )
      let seen = yield* elsewhere
      for (let i = 0; i < 2_000 && seen[0] !== 1; i++) {
        yield* pass(10)
        seen = yield* elsewhere
      }
      assert.deepStrictEqual(seen, [1])
      yield* a.desk.finishAll()
      assert.deepInclude(yield* elsewhere, 0)
    })
  )
})
