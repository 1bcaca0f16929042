import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Scope from "effect/Scope"
import { ConcurrentConsumer, type HandlerOptions } from "../src/ConcurrentConsumer.ts"
import type { ConsumerError } from "../src/ConsumerError.ts"
import { ConsumerRegistry, makeRegistry } from "../src/ConsumerRegistry.ts"
import { FailurePolicy } from "../src/FailurePolicy.ts"
import { Handler } from "../src/Handler.ts"
import { KafkaClient } from "../src/KafkaClient.ts"
import { Boom, Desk, pass, passUntil, turns, whileTimePasses, world } from "./harness.ts"
import { OffsetMap } from "../src/OffsetMap.ts"
import { at, given, later, outcomes, scripted } from "./script.ts"

const stubborn = () => new Desk({ around: (_, wait) => Effect.uninterruptible(wait) })

describe("shutdown", () => {
  it.effect("D7: by interrupt: the boundary of interrupted records ends with the epoch, they come again", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.produce(5)
      const a = yield* w.member("a", { batchInterval: 3_600_000, batchSize: 1000 })
      yield* a.desk.finish(0, 0, 1, 3)
      const { millis } = yield* whileTimePasses(a.close)
      assert.strictEqual(millis, 0)
      assert.deepStrictEqual(a.desk.interrupted, ["0:2", "0:4"])
      assert.strictEqual(w.committed(), 2)
      assert.deepStrictEqual(w.kafka.groupUnsafe("g").members, [])
      const b = yield* w.member("b")
      assert.deepStrictEqual(b.desk.running, ["0:2", "0:4"])
    })
  )

  it.effect(
    "D8: by drain with one slow handler: the others are committed in time, the slow one is interrupted before the flush",
    () =>
      Effect.gen(function* () {
        const w = yield* world({ commitLatency: 1_500 })
        yield* w.produce(6)
        const a = yield* w.member("a", { shutdown: "drain", concurrency: 4, batchInterval: 3_600_000, batchSize: 1000 })
        yield* pass(2_000)
        assert.deepStrictEqual(a.desk.running, ["0:0", "0:1", "0:2", "0:3"])
        const closing = yield* Effect.forkChild(whileTimePasses(a.close))
        yield* pass(1_000)
        yield* a.desk.finish(0, 0, 1, 2)
        // nothing starts any more
        assert.deepStrictEqual(a.desk.running, ["0:3"])
        const { millis } = yield* Fiber.join(closing)
        assert.deepStrictEqual(a.desk.interrupted, ["0:3"])
        assert.strictEqual(w.committed(), 3)
        assert.isAtLeast(millis, 17_000)
        assert.isAtMost(millis, 20_000)
        assert.deepStrictEqual(w.kafka.groupUnsafe("g").members, [])
      })
  )

  it.effect("a drain ends as soon as nothing runs, and periodic commits go on during it", () =>
    Effect.gen(function* () {
      const s = yield* given([3], { shutdown: "drain", batchSize: 1, minCommitInterval: 0 })
      const closing = yield* Effect.forkChild(s.close)
      yield* pass(1_000)
      yield* s.desk.finish(0, 0)
      assert.deepStrictEqual(s.session.commits, ["0=1"])
      assert.strictEqual((yield* s.consumer.snapshot).partitions[0]!.state, "draining")
      yield* s.desk.finish(0, 1, 2)
      yield* Fiber.join(closing)
      assert.deepStrictEqual(s.session.commits, ["0=1", "0=3"])
      assert.strictEqual(s.session.leaves, 1)
    })
  )

  it.effect(
    "D9: a rebalance that arrives during the drain of a shutdown is answered when the partitions have ended, by the earlier clock",
    () =>
      Effect.gen(function* () {
        const s = yield* given([2], { shutdown: "drain" })
        yield* s.desk.finish(0, 0)
        const closing = yield* Effect.forkChild(s.close)
        yield* pass(1_000)
        const revoke = yield* s.session.revoking([at(0, 1)], { exact: false })
        assert.isFalse(revoke.answered())
        yield* pass(4_999)
        assert.isFalse(revoke.answered())
        yield* pass(1)
        // revokeDrain (5 s) is earlier than the shutdown's own clock (17 s)
        assert.isTrue(revoke.answered())
        assert.deepStrictEqual(s.desk.interrupted, ["0:1"])
        assert.deepStrictEqual(s.session.commits, ["0=1"])
        yield* Fiber.join(closing)
      })
  )

  it.effect(
    "D9: one that arrives when everything has ended, and before the session is closed, is answered at once",
    () =>
      Effect.gen(function* () {
        const s = yield* scripted()
        s.session.onLeave = Effect.sleep(500)
        yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
        yield* s.session.chunk(0, 1, 0, 2)
        const closing = yield* Effect.forkChild(s.close)
        yield* turns
        assert.strictEqual(s.session.leaves, 1)
        const revoke = yield* s.session.revoking([at(0, 1)], { exact: true })
        assert.isTrue(revoke.answered())
        // and what is assigned now is not opened any more
        yield* s.session.assign([{ partition: 0, epoch: 5, committed: 0 }])
        assert.deepStrictEqual(s.session.begun, ["0#1@0"])
        yield* pass(500)
        yield* Fiber.join(closing)
      })
  )

  for (const protocol of ["eager", "incremental"] as const) {
    it.effect(
      `D9: a member that joins while another one drains at its end (${protocol}) waits for the drain, not for a timeout`,
      () =>
        Effect.gen(function* () {
          const w = yield* world({ partitions: 2, protocol })
          for (let p = 0; p < 2; p++) yield* w.produce(2, p)
          const a = yield* w.member("a", { shutdown: "drain" })
          yield* a.desk.finish(0, 0)
          const closing = yield* Effect.forkChild(whileTimePasses(a.close))
          yield* pass(500)
          const b = yield* w.member("b")
          yield* pass(3_000)
          yield* a.desk.finish(0, 1)
          yield* a.desk.finish(1, 0)
          const { millis } = yield* Fiber.join(closing)
          assert.isAtMost(millis, 12_000)
          assert.deepStrictEqual([w.committed(0), w.committed(1)], [2, 1])
          yield* pass(10_000)
          assert.deepStrictEqual(b.desk.running, ["1:1"])
          assert.deepStrictEqual(
            w.kafka.groupUnsafe("g").members.map((m) => m.clientId),
            ["b"]
          )
        })
    )
  }

  it.effect("a revoke that is being held when the shutdown comes is answered by the earlier of both clocks", () =>
    Effect.gen(function* () {
      for (const exact of [true, false]) {
        const s = yield* given([2], { shutdown: "interrupt" })
        yield* s.desk.finish(0, 0)
        const revoke = yield* s.session.revoking([at(0, 1)], { exact })
        yield* pass(1_000)
        const closing = yield* Effect.forkChild(s.close)
        yield* turns
        assert.isTrue(revoke.answered())
        assert.deepStrictEqual(s.desk.interrupted, ["0:1"])
        assert.deepStrictEqual(s.session.commits, ["0=1"])
        yield* Fiber.join(closing)
        assert.include(s.rows, "partition:P21")
      }
    })
  )

  it.effect("a shutdown by drain while an eager revoke is held: interrupted at the revoke's clock, and closed", () =>
    Effect.gen(function* () {
      const s = yield* given([2], { shutdown: "drain" })
      const revoke = yield* s.session.revoking([at(0, 1)], { exact: false })
      yield* pass(1_000)
      const closing = yield* Effect.forkChild(s.close)
      yield* pass(3_999)
      assert.deepStrictEqual([s.desk.interrupted, revoke.answered()], [[], false])
      yield* pass(1)
      assert.deepStrictEqual(s.desk.interrupted, ["0:0", "0:1"])
      yield* Fiber.join(closing)
      assert.isTrue(revoke.answered())
    })
  )

  it.effect("a shutdown while the flush of an eager revoke is under way closes when it is answered", () =>
    Effect.gen(function* () {
      const s = yield* given([2])
      const late = later()
      s.session.answers.push(late.answer)
      const revoke = yield* s.session.revoking([at(0, 1)], { exact: false })
      yield* s.desk.finish(0, 0, 1)
      const closing = yield* Effect.forkChild(s.close)
      yield* turns
      assert.isFalse(revoke.answered())
      yield* late.give()
      assert.isTrue(revoke.answered())
      yield* Fiber.join(closing)
      assert.deepStrictEqual(s.session.commits, ["0=2"])
      assert.include(s.rows, "partition:P19")
    })
  )

  for (const shutdown of ["interrupt", "drain"] as const) {
    it.effect(
      `D10: closing (${shutdown}) while suspended waits for the owner to be known, so that what finished since the flush is committed`,
      () =>
        Effect.gen(function* () {
          const s = yield* given([3], { shutdown })
          yield* s.session.revoking([at(0, 1)], { exact: false })
          yield* pass(5_000)
          yield* s.desk.finish(0, 0)
          const closing = yield* Effect.forkChild(s.close)
          yield* pass(1_000)
          assert.strictEqual(s.session.leaves, 0)
          assert.deepStrictEqual(s.session.commits, [])
          yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 0 }])
          if (shutdown === "drain") yield* s.desk.finish(0, 1, 2)
          yield* Fiber.join(closing)
          assert.deepStrictEqual(s.session.commits, [shutdown === "drain" ? "0=3" : "0=1"])
          assert.strictEqual(s.session.leaves, 1)
        })
    )
  }

  it.effect("D10: closing while suspended: what finished behind a gap since the flush is in the map that is left", () =>
    Effect.gen(function* () {
      const s = yield* given([3])
      yield* s.session.revoking([at(0, 1)], { exact: false })
      yield* pass(5_000)
      yield* s.desk.finish(0, 1)
      const closing = yield* Effect.forkChild(s.close)
      yield* pass(1_000)
      yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 0 }])
      yield* Fiber.join(closing)
      assert.deepStrictEqual(s.session.commits, ["0=0"])
      const { metadata } = s.session.sent[0]!.entries[0]!
      const map = OffsetMap.decode(metadata, { topic: "t", partition: 0, base: 0n, trust: "own" })
      assert.deepStrictEqual(map._tag === "Map" ? [...OffsetMap.done(map.map)] : map._tag, [[1n, 2n]])
    })
  )

  it.effect(
    "D10: it comes back when hardly any time is left: the flush goes before the grace of who ignores his interruption",
    () =>
      Effect.gen(function* () {
        const s = yield* given([3], {
          shutdownTimeout: 3_001,
          interruptGrace: 1_000,
          flushReserve: 2_000,
          desk: stubborn()
        })
        yield* s.session.revoking([at(0, 1)], { exact: false })
        yield* pass(5_000)
        yield* s.desk.finish(0, 0)
        const closing = yield* Effect.forkChild(s.close)
        yield* pass(2_900)
        yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 0 }])
        const { millis } = yield* whileTimePasses(Fiber.join(closing))
        assert.deepStrictEqual(s.session.commits, ["0=1"])
        assert.isAtMost(millis, 150)
        yield* s.desk.finish(0, 1, 2)
      })
  )

  it.effect("D10: nobody says whose it is: after the clocks it ends without a commit; given to another: at once", () =>
    Effect.gen(function* () {
      for (const toAnother of [false, true]) {
        const s = yield* given([3])
        yield* s.session.revoking([at(0, 1)], { exact: false })
        yield* pass(5_000)
        yield* s.desk.finish(0, 0)
        const closing = yield* Effect.forkChild(s.close)
        yield* pass(2_999)
        assert.strictEqual(s.session.leaves, 0)
        yield* toAnother ? s.session.assign([]) : pass(1)
        yield* Fiber.join(closing)
        assert.deepStrictEqual(s.session.commits, [])
        assert.deepStrictEqual(s.desk.running, [])
      }
    })
  )

  it.effect(
    "closing while suspended before the start was known: ends when it comes back, there is nothing to drain",
    () =>
      Effect.gen(function* () {
        const s = yield* scripted()
        s.session.answers.push(later().answer)
        yield* s.session.assign([{ partition: 0, epoch: 1 }])
        yield* s.session.revoking([at(0, 1)], { exact: false })
        const closing = yield* Effect.forkChild(s.close)
        yield* pass(100)
        assert.isUndefined(closing.pollUnsafe())
        yield* s.session.assign([{ partition: 0, epoch: 1, retained: true }])
        yield* Fiber.join(closing)
        assert.deepStrictEqual(s.session.begun, [])
      })
  )

  it.effect(
    "what is left in the inbox by the run before is answered or dropped: it is of a membership that is over",
    () =>
      Effect.gen(function* () {
        const s = yield* scripted()
        yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
        yield* s.interrupt
        // nobody reads the inbox now
        yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
        yield* s.session.chunk(0, 2, 0, 3)
        const revoke = yield* s.session.revoking([at(0, 2)], { exact: false })
        yield* s.session.lost(at(0, 2))
        assert.isFalse(revoke.answered())
        yield* s.run
        assert.isTrue(revoke.answered())
        assert.deepStrictEqual(s.desk.started, [])
        assert.strictEqual((yield* s.consumer.snapshot).fenced, 3)
        yield* s.session.assign([{ partition: 0, epoch: 3, committed: 0 }])
        yield* s.session.chunk(0, 3, 0, 1)
        assert.deepStrictEqual(s.desk.running, ["0:0"])
      })
  )

  it.effect("run after the layer has closed is refused", () =>
    Effect.gen(function* () {
      const w = yield* world()
      const a = yield* w.member("a", { idle: true })
      yield* a.close
      const exit = yield* Effect.exit(a.consumer.run(Handler.make("t", () => Effect.void)))
      const error = Cause.squash((exit as Exit.Failure<void, unknown>).cause) as ConsumerError
      assert.strictEqual(error.reason._tag, "Ended")
    })
  )

  it.effect("interrupting a run that waits for its topic, or for a join that hangs, ends at once", () =>
    Effect.gen(function* () {
      const w = yield* world()
      const a = yield* w.member("a", { topics: ["not-there"] })
      yield* pass(5_000)
      const { millis } = yield* whileTimePasses(a.interrupt)
      assert.strictEqual(millis, 0)
      const s = yield* scripted({ idle: true })
      s.session.onJoin = Effect.never
      yield* s.run
      yield* s.interrupt
      assert.strictEqual(s.session.leaves, 1)
    })
  )

  it.effect("closing while a start is being established, or before any assignment, ends at once", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      s.session.answers.push(later().answer)
      yield* s.session.assign([{ partition: 0, epoch: 1 }])
      yield* s.close
      assert.strictEqual(s.session.leaves, 1)
      const t = yield* scripted()
      yield* t.close
      assert.strictEqual(t.session.leaves, 1)
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(t.fiber())))
    })
  )
})

describe("I8: the bound of a shutdown", () => {
  const bound = 20_000 + 2_000
  const cases: ReadonlyArray<
    readonly [string, Parameters<typeof scripted>[0], (s: Effect.Success<ReturnType<typeof scripted>>) => void]
  > = [
    ["handlers that ignore interruption", { desk: stubborn() }, () => {}],
    ["handlers that ignore interruption, by drain", { desk: stubborn(), shutdown: "drain" }, () => {}],
    [
      "commits that are never answered",
      {},
      (s) => void s.session.answers.push(...Array.from({ length: 50 }, () => later().answer))
    ],
    [
      "commits that always fail",
      {},
      (s) => void s.session.answers.push(...Array.from({ length: 500 }, () => outcomes("retriable", "NOT_COORDINATOR")))
    ],
    [
      "commits that are always deferred",
      {},
      (s) => void (s.session.always = outcomes("deferred", "REBALANCE_IN_PROGRESS"))
    ],
    ["a leave that is never answered", {}, (s) => void (s.session.onLeave = Effect.never)],
    [
      "a leave that is never answered and cannot be interrupted",
      {},
      (s) => void (s.session.onLeave = Effect.uninterruptible(Effect.sleep(60_000)))
    ],
    [
      "all of it at once",
      { desk: stubborn(), shutdown: "drain" },
      (s) => {
        s.session.answers.push(...Array.from({ length: 50 }, () => later().answer))
        s.session.onLeave = Effect.never
      }
    ]
  ]
  for (const [title, options, prepare] of cases) {
    it.effect(`I8: within shutdownTimeout + 2 s with ${title}`, () =>
      Effect.gen(function* () {
        const s = yield* given([5], options)
        yield* s.desk.finish(0, 0)
        prepare(s)
        const { millis } = yield* whileTimePasses(s.close, 100_000)
        assert.isAtMost(millis, bound)
        assert.isTrue(s.fiber().pollUnsafe() !== undefined)
        yield* s.desk.finishAll()
      })
    )
  }

  it.effect(
    "closing while the group is between two generations waits for it with the flush, as long as there is time",
    () =>
      Effect.gen(function* () {
        for (const shutdown of ["interrupt", "drain"] as const) {
          const s = yield* given([3], { shutdown })
          yield* s.desk.finish(0, 0)
          s.session.always = outcomes("deferred", "REBALANCE_IN_PROGRESS")
          const closing = yield* Effect.forkChild(s.close)
          if (shutdown === "drain") yield* s.desk.finish(0, 1, 2)
          yield* pass(19_000)
          assert.deepStrictEqual([s.session.leaves, closing.pollUnsafe()], [0, undefined])
          s.session.always = outcomes("committed")
          yield* pass(50)
          yield* Fiber.join(closing)
          assert.strictEqual(s.session.commits.at(-1), shutdown === "drain" ? "0=3" : "0=1")
          assert.strictEqual(s.session.leaves, 1)
          assert.include(s.rows, "partition:P19")
        }
      })
  )

  for (const how of ["close", "interrupt"] as const) {
    it.effect(
      `a cooperative member that ends (${how}) while another one holds back its second JoinGroup commits what is done`,
      () =>
        Effect.gen(function* () {
          const w = yield* world({ partitions: 6 })
          const produce = Effect.forEach([0, 1, 2, 3, 4, 5], (p) => w.produce(2, p), { discard: true })
          const options = {
            assignor: "cooperative-sticky",
            batchSize: 1,
            flushReserve: 500,
            revokeDrain: 6_000
          } as const
          const a = yield* w.member("a", options)
          const b = yield* w.member("b", options)
          yield* passUntil("b has its share", () => b.session().heldUnsafe().length === 3)
          yield* produce
          yield* pass(100)
          yield* a.desk.finishAll()
          yield* pass(100)
          const c = yield* w.member("c", options)
          yield* passUntil("b drains", () => b.rows.includes("partition:P5"))
          yield* passUntil("a has given up its part", () => a.session().heldUnsafe().length === 2, 4_000)
          const [own] = a.session().heldUnsafe()
          yield* w.produce(2, own!.partition)
          yield* pass(100)
          yield* a.desk.finishAll()
          const closing = yield* Effect.forkChild(how === "close" ? a.close : a.interrupt)
          yield* pass(3_000)
          assert.deepStrictEqual([closing.pollUnsafe(), w.committed(own!.partition)], [undefined, 2])
          yield* b.desk.finishAll()
          yield* pass(100)
          yield* Fiber.join(closing)
          assert.strictEqual(w.committed(own!.partition), 4)
          yield* pass(10_000)
          yield* c.desk.finishAll()
        })
    )
  }

  it.effect("the same where a revoke was being flushed when the shutdown came", () =>
    Effect.gen(function* () {
      const s = yield* given([1])
      s.session.always = outcomes("deferred", "STALE_MEMBER_EPOCH")
      const revoke = yield* s.session.revoking([at(0, 1)], { exact: true })
      yield* s.desk.finish(0, 0)
      yield* pass(1_000)
      const closing = yield* Effect.forkChild(s.close)
      yield* pass(3_000)
      assert.deepStrictEqual([revoke.answered(), closing.pollUnsafe()], [false, undefined])
      s.session.always = outcomes("committed")
      yield* pass(50)
      yield* Fiber.join(closing)
      assert.deepStrictEqual([revoke.answered(), s.session.commits.at(-1)], [true, "0=1"])
    })
  )

  it.effect("what is not deferred is waited for no longer than flushReserve, also when it was deferred before", () =>
    Effect.gen(function* () {
      const cases = [outcomes("retriable", "NOT_COORDINATOR"), () => Effect.never] as const
      for (const answer of cases) {
        for (const deferredFor of [0, 5_000]) {
          const s = yield* given([1], { flushReserve: 2_000 })
          yield* s.desk.finish(0, 0)
          s.session.always = outcomes("deferred", "REBALANCE_IN_PROGRESS")
          if (deferredFor === 0) s.session.always = answer
          const closing = yield* Effect.forkChild(s.close)
          yield* pass(deferredFor)
          s.session.always = answer
          yield* pass(1_940)
          assert.isUndefined(closing.pollUnsafe())
          yield* pass(110)
          yield* Fiber.join(closing)
        }
      }
    })
  )

  it.effect("I8: the same when run is interrupted while the layer stays open", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ desk: stubborn(), shutdown: "drain", careless: true })
      s.session.onLeave = Effect.never
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 5)
      yield* s.desk.finish(0, 0)
      s.session.answers.push(...Array.from({ length: 50 }, () => later().answer))
      const { millis } = yield* whileTimePasses(s.interrupt, 100_000)
      assert.isAtMost(millis, bound)
      yield* s.desk.finishAll()
      s.session.onLeave = Effect.void
    })
  )

  it.effect(
    "I8: a program that ends by interruption (SIGTERM) with 50 sleeping handlers: each finalizer runs once, the done prefix is committed, the group is left",
    () =>
      Effect.gen(function* () {
        const w = yield* world()
        yield* w.produce(60)
        const closed: Array<number> = []
        const program = Effect.gen(function* () {
          const consumer = yield* ConcurrentConsumer
          yield* consumer.run(
            Handler.make("t", (record) =>
              Effect.gen(function* () {
                yield* Effect.acquireRelease(Effect.void, () =>
                  Effect.andThen(
                    Effect.sleep(300),
                    Effect.sync(() => void closed.push(Number(record.offset)))
                  )
                )
                if (record.offset >= 10n) yield* Effect.sleep("1 hour")
              })
            )
          )
        }).pipe(
          Effect.provide(ConcurrentConsumer.layer({ groupId: "g", topics: ["t"], concurrency: 50, batchSize: 1000 })),
          Effect.provideService(KafkaClient, w.kafka.client()),
          Effect.provideService(ConsumerRegistry, makeRegistry())
        )
        const fiber = yield* Effect.forkDetach(program)
        yield* pass(301)
        w.expect("passedOver")
        closed.length = 0
        yield* turns
        const { millis } = yield* whileTimePasses(Fiber.interrupt(fiber))
        assert.isAtMost(millis, 400)
        assert.deepStrictEqual(
          closed.sort((a, b) => a - b),
          Array.from({ length: 50 }, (_, i) => 10 + i)
        )
        assert.strictEqual(w.committed(), 10)
        assert.deepStrictEqual(w.kafka.groupUnsafe("g").members, [])
        const exit = yield* Fiber.await(fiber)
        assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
      })
  )
})

describe("what is left behind", () => {
  it.live("I8: no timer and no fiber: after closing, the process has what it had before", () =>
    Effect.gen(function* () {
      const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length
      const before = timers()
      yield* Effect.scoped(
        Effect.gen(function* () {
          const w = yield* world({ partitions: 3 })
          w.expect("passedOver")
          w.expect("backwards")
          for (let p = 0; p < 3; p++) yield* w.produce(50, p)
          const a = yield* w.member("a", {
            policy: "none",
            handler: Handler.make("t", () => Effect.sleep(5)),
            concurrency: 20
          })
          yield* Effect.sleep(50)
          yield* a.consumer.seek({ topic: "t", partition: 0 }, 3n)
          yield* w.kafka.rebalance("g")
          yield* Effect.sleep(20)
          yield* a.interrupt
          yield* a.run
          yield* Effect.sleep(20)
          assert.isAbove(timers(), before)
          yield* a.close
        })
      )
      assert.isAtMost(timers(), before)
    })
  )
})

/** A resource that handlers use, and that must outlive them. */
class Db extends Context.Service<Db, { readonly use: Effect.Effect<void> }>()("test/Db") {}

describe("the life of run", () => {
  /** An app with a database and 8 handlers that use it all the time; `how` ends it. */
  const app = (
    how: (
      program: Effect.Effect<never, never, ConcurrentConsumer | Db>,
      layer: Layer.Layer<ConcurrentConsumer | Db, unknown>
    ) => Effect.Effect<void, unknown>
  ) =>
    Effect.gen(function* () {
      const w = yield* world()
      w.expect("passedOver")
      yield* w.produce(20)
      const seen = { usesAfterClose: 0, uses: 0, finalizers: 0, atDbClose: "" }
      let open = false
      const db = Layer.effect(
        Db,
        Effect.acquireRelease(
          Effect.sync(() => {
            open = true
            return {
              use: Effect.sync(() => {
                seen.uses++
                if (!open) seen.usesAfterClose++
              })
            }
          }),
          () =>
            Effect.sync(() => {
              open = false
              seen.atDbClose = `committed ${w.committed()}, members ${w.kafka.groupUnsafe("g").members.length}, finalizers ${seen.finalizers}`
            })
        )
      )
      const layer = ConcurrentConsumer.layer({ groupId: "g", topics: ["t"], concurrency: 8, batchSize: 1000 }).pipe(
        Layer.provideMerge(db),
        Layer.provide(Layer.succeed(KafkaClient, w.kafka.client())),
        Layer.provide(Layer.succeed(ConsumerRegistry, makeRegistry()))
      )
      const handler = Handler.make("t", (record) =>
        Effect.gen(function* () {
          const { use } = yield* Db
          yield* Effect.addFinalizer(() =>
            Effect.andThen(
              use,
              Effect.sync(() => void seen.finalizers++)
            )
          )
          if (record.offset < 3n) return yield* use
          yield* Effect.forever(Effect.andThen(use, Effect.sleep(10)))
        })
      )
      const program = Effect.gen(function* () {
        const consumer = yield* ConcurrentConsumer
        yield* Effect.forkChild(consumer.run(handler), { startImmediately: true })
        return yield* Effect.never
      })
      yield* how(program, layer as Layer.Layer<ConcurrentConsumer | Db, unknown>)
      const { uses } = seen
      yield* pass(100)
      assert.strictEqual(seen.uses, uses, "no handler goes on")
      assert.strictEqual(seen.usesAfterClose, 0)
      assert.strictEqual(seen.atDbClose, "committed 3, members 0, finalizers 11")
    })

  const ended = (effect: Effect.Effect<unknown, unknown>) => Effect.asVoid(Effect.exit(effect))
  const running = Effect.andThen(turns, pass(50))

  it.effect("the program succeeds", () =>
    app((program, layer) => ended(Effect.raceFirst(program, running).pipe(Effect.provide(layer))))
  )
  it.effect("the program succeeds while run is still its child", () =>
    app((program, layer) => ended(Effect.andThen(Effect.forkChild(program), running).pipe(Effect.provide(layer))))
  )
  it.effect("the program fails", () =>
    app((program, layer) =>
      ended(
        Effect.andThen(Effect.forkChild(program), Effect.andThen(running, Effect.fail("no"))).pipe(
          Effect.provide(layer)
        )
      )
    )
  )
  it.effect("the program dies", () =>
    app((program, layer) =>
      ended(
        Effect.andThen(Effect.forkChild(program), Effect.andThen(running, Effect.die("no"))).pipe(Effect.provide(layer))
      )
    )
  )
  it.effect("the program is interrupted", () =>
    app((program, layer) =>
      Effect.gen(function* () {
        const fiber = yield* Effect.forkDetach(Effect.provide(program, layer))
        yield* running
        yield* Fiber.interrupt(fiber)
      })
    )
  )
  it.effect("Layer.launch is interrupted", () =>
    app((program, layer) =>
      Effect.gen(function* () {
        const handling = Layer.effectDiscard(Effect.forkScoped(program)).pipe(Layer.provide(layer))
        const fiber = yield* Effect.forkDetach(Layer.launch(handling))
        yield* running
        yield* Fiber.interrupt(fiber)
      })
    )
  )
  it.effect("ManagedRuntime.dispose, with run in a fiber of the runtime", () =>
    app((program, layer) =>
      Effect.gen(function* () {
        const context = yield* Effect.context<never>()
        const runtime = ManagedRuntime.make(Layer.provide(layer, Layer.succeedContext(context)))
        yield* Effect.promise(() => runtime.context())
        runtime.runFork(program)
        yield* running
        yield* Effect.promise(() => runtime.dispose())
      })
    )
  )
  it.effect("ManagedRuntime.dispose, with run in a fiber that outlives it", () =>
    app((program, layer) =>
      Effect.gen(function* () {
        const context = yield* Effect.context<never>()
        const runtime = ManagedRuntime.make(Layer.provide(layer, Layer.succeedContext(context)))
        const built = yield* Effect.promise(() => runtime.context())
        const fiber = Effect.runForkWith(Context.merge(context, built))(program)
        yield* running
        yield* Effect.promise(() => runtime.dispose())
        yield* Fiber.interrupt(fiber)
      })
    )
  )
  it.effect("the scope is closed while run is a fiber of somebody else", () =>
    app((program, layer) =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const built = yield* Layer.buildWithScope(layer, scope)
        const fiber = yield* Effect.forkDetach(Effect.provideContext(program, built))
        yield* running
        yield* Scope.close(scope, Exit.void)
        yield* Fiber.interrupt(fiber)
      })
    )
  )

  it.effect(
    "run interrupted while the layer lives on: no handler goes on, the group is left, and it can be run again",
    () =>
      Effect.gen(function* () {
        const w = yield* world()
        yield* w.produce(20)
        const a = yield* w.member("a", { concurrency: 8 })
        yield* a.desk.finish(0, 0, 1)
        yield* a.interrupt
        assert.deepStrictEqual(a.desk.running, [])
        assert.strictEqual(w.committed(), 2)
        assert.deepStrictEqual(w.kafka.groupUnsafe("g").members, [])
        assert.deepStrictEqual(yield* a.codes, ["idle"])
        const epochs = new Set(a.desk.attempts.map((attempt) => attempt.record.epoch))
        yield* a.run
        assert.strictEqual(a.desk.running.length, 8)
        assert.isFalse(epochs.has(a.desk.attempts.at(-1)!.record.epoch))
        assert.strictEqual(a.desk.at(0, 2).running, true)
      })
  )

  it.effect("the layer closes first: run completes with success", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.produce(5)
      const a = yield* w.member("a")
      yield* a.close
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(a.fiber())))
    })
  )
})

describe("launch", () => {
  const layerHandler = (
    w: Effect.Success<ReturnType<typeof world>>,
    clientId: string,
    desk: Desk,
    options: Partial<HandlerOptions> & { readonly policy?: FailurePolicy<Boom, never> } = {}
  ) =>
    ConcurrentConsumer.layerHandler(Handler.make("t", w.watch(desk, clientId).handle), {
      groupId: clientId,
      batchSize: 1000,
      onFailure: options.policy ?? FailurePolicy.stop,
      ...options
    }).pipe(Layer.provide(Layer.succeed(KafkaClient, w.kafka.client({ clientId }))))
  const launched = (layer: Layer.Layer<never, unknown>) =>
    Effect.forkDetach(ConcurrentConsumer.launch(layer).pipe(Effect.provideService(ConsumerRegistry, makeRegistry())), {
      startImmediately: true
    })

  it.effect("a consumer that stops ends the program, after an orderly close of all of them", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.produce(5)
      const [a, b] = [new Desk(), new Desk()]
      const fiber = yield* launched(Layer.mergeAll(layerHandler(w, "a", a), layerHandler(w, "b", b)))
      yield* turns
      yield* a.finish(0, 0)
      yield* b.finish(0, 0, 1)
      yield* a.end(0, 1, Exit.fail(new Boom()))
      const exit = yield* Fiber.await(fiber)
      assert.isTrue(Exit.isFailure(exit))
      const error = Cause.squash((exit as Exit.Failure<never, unknown>).cause) as ConsumerError
      assert.strictEqual(error._tag, "ConsumerError")
      assert.deepInclude(error.reason, { _tag: "Stopped", topic: "t", partition: 0, offset: 1n })
      assert.strictEqual(Number(w.kafka.committedUnsafe("a", "t", 0)!.offset), 1)
      assert.strictEqual(Number(w.kafka.committedUnsafe("b", "t", 0)!.offset), 2)
      for (const id of ["a", "b"]) assert.deepStrictEqual(w.kafka.groupUnsafe(id).members, [])
      assert.isTrue(w.kafka.sessionsUnsafe().every((session) => !session.isOpenUnsafe()))
      assert.deepStrictEqual([a.running, b.running], [[], []])
    })
  )

  it.effect("onEnd report: the program goes on, the other consumer too, health says failed", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.produce(5)
      const [a, b] = [new Desk(), new Desk()]
      const registry = makeRegistry()
      const fiber = yield* Effect.forkDetach(
        ConcurrentConsumer.launch(
          Layer.mergeAll(layerHandler(w, "a", a, { onEnd: "report" }), layerHandler(w, "b", b))
        ).pipe(Effect.provideService(ConsumerRegistry, registry)),
        { startImmediately: true }
      )
      yield* turns
      yield* a.end(0, 0, Exit.fail(new Boom()))
      yield* pass(1_000)
      assert.isUndefined(fiber.pollUnsafe())
      assert.strictEqual(b.running.length, 5)
      const consumers = yield* registry.consumers
      const health = yield* consumers.find((c) => c.name === "a")!.health
      assert.deepInclude(health, { status: "down", live: false, ready: false })
      assert.deepStrictEqual(
        health.reasons.map((r) => r.code),
        ["failed"]
      )
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(b.running, [])
    })
  )

  it.effect("interrupted: handlers are interrupted, offsets committed, groups left", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.produce(5)
      const desk = new Desk()
      const fiber = yield* launched(layerHandler(w, "a", desk))
      yield* turns
      yield* desk.finish(0, 0)
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(Number(w.kafka.committedUnsafe("a", "t", 0)!.offset), 1)
      assert.deepStrictEqual(w.kafka.groupUnsafe("a").members, [])
      assert.deepStrictEqual(desk.running, [])
      const exit = yield* Fiber.await(fiber)
      assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
    })
  )

  it.effect("a layer that cannot be built fails it", () =>
    Effect.gen(function* () {
      const w = yield* world()
      const layer = layerHandler(w, "a", new Desk(), { concurrency: 0 })
      const exit = yield* Effect.exit(ConcurrentConsumer.launch(layer))
      assert.isTrue(Exit.isFailure(exit) && String(Cause.squash(exit.cause)).includes("concurrency"))
    })
  )

  it.effect("three consumers drain side by side, not one after another", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.produce(1)
      const desks = [new Desk(), new Desk(), new Desk()]
      const fiber = yield* launched(
        Layer.mergeAll(
          ...(desks.map((desk, i) => layerHandler(w, `c${i}`, desk, { shutdown: "drain" })) as [
            Layer.Layer<never, unknown>
          ])
        )
      )
      yield* turns
      const began = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      yield* Effect.forkChild(
        Effect.andThen(
          Effect.sleep(200),
          Effect.sync(() => {
            for (const desk of desks) desk.at(0, 0).end(Exit.void)
          })
        )
      )
      const { millis } = yield* whileTimePasses(Fiber.interrupt(fiber))
      assert.isAtMost(millis, 250)
      assert.strictEqual(began, 0)
      for (let i = 0; i < 3; i++) assert.strictEqual(Number(w.kafka.committedUnsafe(`c${i}`, "t", 0)!.offset), 1)
    })
  )

  it.effect("during the drain the consumer is still seen by the registry, shutting down and not ready", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.produce(2)
      const a = yield* w.member("a", { shutdown: "drain" })
      const closing = yield* Effect.forkChild(a.close)
      yield* pass(1_000)
      const consumers = yield* a.registry.consumers
      assert.strictEqual(consumers.length, 1)
      const health = yield* consumers[0]!.health
      assert.deepInclude(health, { status: "ok", live: true, ready: false })
      assert.deepStrictEqual(
        health.reasons.map((r) => r.code),
        ["shuttingDown"]
      )
      yield* a.desk.finishAll()
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* a.registry.consumers, [])
    })
  )
})
