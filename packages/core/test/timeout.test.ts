import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { type Failure, FailurePolicy } from "../src/FailurePolicy.ts"
import { Handler, HandlerTimeout } from "../src/Handler.ts"
import { type Boom, Desk, pass, turns, world, ended } from "./harness.ts"
import { at, given, scripted } from "./script.ts"

const timed = (desk: Desk, millis: number) =>
  Handler.make("t", desk.handle).pipe(Handler.timeout(millis)) as unknown as Handler<Boom, never>

const stubborn = () => new Desk({ around: (_, wait) => Effect.uninterruptible(wait) })

describe("Handler.timeout", () => {
  it.effect("interrupts a late attempt, and asks the policy with HandlerTimeout", () =>
    Effect.gen(function* () {
      const desk = new Desk()
      const failures: Array<Failure<unknown>> = []
      const s = yield* given([2], {
        desk,
        handler: timed(desk, 1_000),
        policy: FailurePolicy.make((failure: Failure<unknown>) => {
          failures.push(failure)
          return { _tag: "Skip" }
        })
      })
      yield* pass(999)
      yield* desk.finish(0, 1)
      assert.deepStrictEqual(desk.running, ["0:0"])
      yield* pass(1)
      assert.deepStrictEqual(desk.interrupted, ["0:0"])
      assert.strictEqual(failures.length, 1)
      const { error, kind } = failures[0]!
      assert.strictEqual(kind, "error")
      assert.isTrue(error._tag === "Some" && error.value instanceof HandlerTimeout && error.value.afterMillis === 1_000)
      assert.isTrue(error._tag === "Some" && String(error.value).includes("1000 ms"))
      const snapshot = yield* s.consumer.snapshot
      assert.deepStrictEqual(snapshot.outcomes, ended({ handled: 1, skipped: 1 }))
      assert.strictEqual(snapshot.interrupted, 1)
      yield* pass(10_000)
      assert.deepStrictEqual(s.session.commits, ["0=2"])
    })
  )

  it.effect(
    "the attempt's finalizers have interruptGrace; then it is decided about, and the fiber goes on as a zombie with its permit",
    () =>
      Effect.gen(function* () {
        const desk = stubborn()
        const s = yield* given([3], {
          desk,
          concurrency: 2,
          offsetMap: "off",
          batchSize: 1,
          minCommitInterval: 0,
          handler: timed(desk, 1_000),
          policy: FailurePolicy.skip
        })
        yield* desk.finish(0, 1)
        yield* desk.finish(0, 2)
        yield* pass(1_999)
        assert.deepStrictEqual(s.session.commits, [])
        yield* pass(1)
        yield* turns
        assert.deepStrictEqual(s.session.commits, ["0=3"])
        assert.deepInclude((yield* s.consumer.snapshot).permits, { used: 1, byZombies: 1 })
        assert.deepStrictEqual(
          (yield* s.consumer.health).reasons.map((r) => r.code),
          ["zombie"]
        )
        yield* s.session.chunk(0, 1, 3, 6)
        assert.deepStrictEqual(desk.running, ["0:0", "0:3"])
        yield* desk.finish(0, 0)
        assert.deepStrictEqual(desk.running, ["0:3", "0:4"])
        const snapshot = yield* s.consumer.snapshot
        assert.deepStrictEqual([snapshot.permits.byZombies, snapshot.fenced], [0, 1])
        // the policy has decided: what becomes of the fiber is nothing to settle
        assert.deepStrictEqual(snapshot.outcomes, ended({ handled: 2, skipped: 1 }))
        yield* desk.finishAll()
        yield* desk.finishAll()
      })
  )

  it.effect("I4: the lane stays with the zombie: the next record of the partition waits", () =>
    Effect.gen(function* () {
      const desk = stubborn()
      const s = yield* given([2], {
        desk,
        ordering: "partition",
        handler: timed(desk, 1_000),
        policy: FailurePolicy.skip
      })
      yield* pass(10_000)
      assert.deepStrictEqual(desk.started, ["0:0"])
      assert.strictEqual((yield* s.consumer.snapshot).outcomes.skipped, 1)
      yield* desk.finish(0, 0)
      assert.deepStrictEqual(desk.started, ["0:0", "0:1"])
      yield* desk.finishAll()
    })
  )

  it.effect("a timed out attempt that a policy stops at: the consumer ends, its fiber is left behind", () =>
    Effect.gen(function* () {
      const desk = stubborn()
      const s = yield* given([1], { desk, handler: timed(desk, 1_000) })
      yield* pass(3_000)
      const exit = s.fiber().pollUnsafe()
      assert.isTrue(exit !== undefined && Exit.isFailure(exit))
      assert.deepStrictEqual(s.session.commits, [])
      yield* desk.finishAll()
    })
  )

  it.effect("uninterruptible work that acknowledges in its last step is done, however late", () =>
    Effect.gen(function* () {
      const s = yield* scripted({
        batchSize: 1,
        handler: Handler.make("t", (record) =>
          Effect.uninterruptible(Effect.andThen(Effect.sleep(1_500), record.ack))
        ).pipe(Handler.timeout(1_000)) as unknown as Handler<Boom, never>
      })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 1)
      yield* pass(1_500)
      assert.deepStrictEqual(s.session.commits, ["0=1"])
      assert.isUndefined(s.fiber().pollUnsafe())
    })
  )

  it.effect("acknowledged before its time is over: not interrupted any more", () =>
    Effect.gen(function* () {
      const desk = new Desk({ around: (attempt, wait) => Effect.andThen(attempt.record.ack, wait) })
      yield* given([1], { desk, handler: timed(desk, 1_000) })
      yield* pass(60_000)
      assert.deepStrictEqual(desk.running, ["0:0"])
      yield* desk.finish(0, 0)
    })
  )

  it.effect("an epoch that ends while a timed out attempt still closes: released, not asked about", () =>
    Effect.gen(function* () {
      let asked = 0
      const desk = stubborn()
      const s = yield* given([1], {
        desk,
        handler: timed(desk, 1_000),
        policy: FailurePolicy.make(() => {
          asked++
          return { _tag: "Skip" }
        })
      })
      yield* pass(1_500)
      yield* s.session.lost(at(0, 1))
      yield* desk.finish(0, 0)
      yield* pass(5_000)
      assert.strictEqual(asked, 0)
      const snapshot = yield* s.consumer.snapshot
      assert.deepInclude(snapshot, { released: 1, interrupted: 1 })
      assert.deepStrictEqual([snapshot.permits.used, snapshot.held.records], [0, 0])
    })
  )

  it.effect(
    "one timer serves thousands of attempts of several limits; the shorter of two limits counts",
    () =>
      Effect.gen(function* () {
        const w = yield* world({ topics: ["t", "u"] })
        w.expect("passedOver")
        yield* w.produce(3_000, 0, "t")
        yield* w.produce(5, 0, "u")
        const desk = new Desk()
        const handler = Handler.make(["t", "u"], desk.handle).pipe(
          Handler.timeout("2 seconds"),
          Handler.timeout("5 seconds")
        ) as unknown as Handler<Boom, never>
        const a = yield* w.member("a", {
          desk,
          handler,
          topics: ["t", "u"],
          policy: FailurePolicy.skip,
          concurrency: 4_000
        })
        yield* turns
        assert.strictEqual(desk.running.length, 3_005)
        for (const attempt of desk.attempts) if (attempt.record.offset % 3n === 0n) attempt.end(Exit.void)
        yield* pass(1_999)
        assert.strictEqual(desk.interrupted.length, 0)
        yield* pass(1)
        assert.deepStrictEqual(desk.running, [])
        assert.strictEqual(desk.interrupted.length, 2_003)
        const { outcomes } = yield* a.consumer.snapshot
        assert.deepStrictEqual(outcomes, ended({ handled: 1_002, skipped: 2_003 }))
        // attempts that come later have a time of their own
        yield* w.produce(1, 0, "t")
        yield* pass(1_999)
        assert.strictEqual(desk.running.length, 1)
        yield* pass(1)
        assert.strictEqual(desk.running.length, 0)
      }),
    30_000
  )

  it.effect("attempts of several limits, that begin at several times, each end at their own", () =>
    Effect.gen(function* () {
      const desk = new Desk()
      const limited = (topic: string, millis: number) => Handler.make(topic, desk.handle).pipe(Handler.timeout(millis))
      const [slow, fast] = [limited("t", 3_000), limited("u", 1_000)]
      const handler = {
        ...slow,
        topics: ["t", "u"],
        timeoutMillis: (topic: string) => (topic === "t" ? slow : fast).timeoutMillis(topic)
      } as unknown as Handler<Boom, never>
      const w = yield* world({ topics: ["t", "u"] })
      w.expect("passedOver")
      yield* w.member("a", { desk, handler, topics: ["t", "u"], policy: FailurePolicy.skip, concurrency: 100 })
      const ends: Array<string> = []
      for (let step = 0; step < 16; step++) {
        if (step < 4) {
          yield* w.produce(1, 0, "t")
          yield* w.produce(1, 0, "u")
        }
        yield* pass(250)
        for (const attempt of desk.attempts) {
          const place = `${attempt.record.topic}${attempt.record.offset}`
          if (!attempt.running && !ends.some((end) => end.startsWith(`${place} `)))
            ends.push(`${place} ${(step + 1) * 250}`)
        }
      }
      assert.sameMembers(ends, ["u0 1000", "u1 1250", "u2 1500", "u3 1750", "t0 3000", "t1 3250", "t2 3500", "t3 3750"])
    })
  )

  it.effect("ended attempts do not pile up in the sweeper's list while one limit is far away", () =>
    Effect.gen(function* () {
      const w = yield* world()
      w.expect("passedOver")
      yield* w.kafka.produceMany({ topic: "t", partition: 0 }, 6_000, () => ({ key: null, value: null }))
      let handled = 0
      yield* w.member("a", {
        concurrency: 5,
        policy: FailurePolicy.skip,
        handler: Handler.make("t", () =>
          Effect.andThen(
            Effect.yieldNow,
            Effect.sync(() => void handled++)
          )
        ).pipe(Handler.timeout("1 hour")) as unknown as Handler<Boom, never>
      })
      for (let i = 0; i < 200 && handled < 6_000; i++) yield* turns
      assert.strictEqual(handled, 6_000)
    })
  )
})
