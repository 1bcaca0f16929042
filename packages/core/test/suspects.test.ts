import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import { type Failure, FailurePolicy } from "../src/FailurePolicy.ts"
import type { Slot } from "../src/internal/slot.ts"
import { Standstill } from "../src/internal/standstill.ts"
import type { RunState } from "../src/internal/state.ts"
import { Suspects } from "../src/internal/suspects.ts"
import { Handler } from "../src/Handler.ts"
import { Boom, Desk, ended, type Member, pass, passUntil, turns, world } from "./harness.ts"
import { recordAt } from "./script.ts"

const noTurn = (): "now" => "now"
const slotOf = (offset: number) => recordAt(0, offset) as unknown as Slot

/** One that the test blocks: it stands still, while for the clock of the machine time goes on. */
const eventLoop = TestClock.testClockWith((testClock) =>
  Effect.sync(() => {
    let blocked = 0
    const clock: Clock.Clock = Object.assign(Object.create(testClock), {
      currentTimeMillisUnsafe: () => testClock.currentTimeMillisUnsafe() + blocked,
      monotonicTimeNanosUnsafe: () => testClock.monotonicTimeNanosUnsafe() + BigInt(blocked) * 1_000_000n
    })
    const block = (millis: number) => void (blocked += millis)
    return { clock, block }
  })
)

describe("records that may block the event loop", () => {
  it.effect("D38: after two lost sessions they run one at a time, and the third is one too many", () =>
    Effect.gen(function* () {
      const suspects = new Suspects()
      const attempt = (slot: Slot) => suspects.guard(slot, Effect.never, noTurn)
      const [a, b] = [slotOf(1), slotOf(2)]
      assert.isFalse(suspects.some)
      suspects.add([a, b])
      suspects.add([a, b])
      const started: Array<number> = []
      const run = (slot: Slot, n: number) =>
        Effect.forkChild(
          suspects.guard(
            slot,
            Effect.andThen(
              Effect.sync(() => void started.push(n)),
              Effect.never
            ),
            noTurn
          )
        )
      const first = yield* run(a, 1)
      const second = yield* run(b, 2)
      yield* turns
      assert.deepStrictEqual(started, [1])
      // the one that waited for its turn has done nothing
      suspects.add([a, b])
      yield* Fiber.interrupt(first)
      yield* turns
      assert.deepStrictEqual(started, [1, 2])
      yield* Fiber.interrupt(second)
      const refused = yield* Effect.exit(attempt(a))
      assert.isTrue(Exit.isFailure(refused))
      assert.include(String((refused as Exit.Failure<never, never>).cause.reasons[0]), "3 times")
      // one that ends after all is nobody to be suspected
      suspects.clear(a)
      suspects.clear(b)
      assert.isFalse(suspects.some)
    })
  )

  it.effect("D38: one that ignores its interruption does not keep the turn from the others", () =>
    Effect.gen(function* () {
      const suspects = new Suspects()
      const [a, b] = [slotOf(1), slotOf(2)]
      suspects.add([a, b])
      suspects.add([a, b])
      const gate = yield* Deferred.make<void>()
      const stubborn = Effect.uninterruptible(Deferred.await(gate))
      const fiber = yield* Effect.forkChild(suspects.guard(a, stubborn, noTurn))
      yield* turns
      yield* Effect.forkChild(Fiber.interrupt(fiber))
      const begun: Array<Slot> = []
      yield* Effect.forkChild(suspects.guard(b, Effect.never, (slot) => (begun.push(slot) > 0 ? "now" : "never")))
      yield* turns
      assert.deepStrictEqual([begun.length, b.waitsForTurn], [0, true])
      yield* suspects.giveBack(a)
      yield* turns
      assert.deepStrictEqual([begun.length, b.waitsForTurn], [1, false])
      yield* Deferred.succeed(gate, undefined)
    })
  )

  it.effect("D38: one whose epoch has ended when its turn comes does not begin any more, and hands the turn on", () =>
    Effect.gen(function* () {
      const suspects = new Suspects()
      const [a, b, c] = [slotOf(1), slotOf(2), slotOf(3)]
      for (let i = 0; i < 2; i++) suspects.add([a, b, c])
      const begun: Array<Slot> = []
      const attempt = (slot: Slot, turnComes: () => "now" | "never") =>
        Effect.forkChild(
          suspects.guard(
            slot,
            Effect.andThen(
              Effect.sync(() => void begun.push(slot)),
              Effect.never
            ),
            turnComes
          )
        )
      const first = yield* attempt(a, () => "now")
      const second = yield* attempt(b, () => "never")
      yield* attempt(c, () => "now")
      yield* turns
      yield* Fiber.interrupt(first)
      yield* turns
      assert.deepStrictEqual(begun, [a])
      yield* Fiber.interrupt(second)
      yield* turns
      assert.deepStrictEqual(begun, [a, c])
    })
  )

  for (const [title, first] of [
    ["end at once", "now"],
    ["have to wait for their partition", "later"]
  ] as const) {
    it.live(`D38: thousands that ${title} hand the turn on one after another, and all of them run`, () =>
      Effect.gen(function* () {
        const suspects = new Suspects()
        const slots = Array.from({ length: 5_000 }, (_, offset) => slotOf(offset))
        const holder = slotOf(5_000)
        for (let i = 0; i < 2; i++) suspects.add([holder, ...slots])
        let says: "now" | "later" = first
        let ran = 0
        const gate = yield* Deferred.make<void>()
        const attempt = Effect.sync(() => void ran++)
        const held = yield* Effect.forkChild(suspects.guard(holder, Deferred.await(gate), noTurn))
        const fibers = yield* Effect.forEach(slots, (slot) =>
          Effect.forkChild(suspects.guard(slot, attempt, () => says))
        )
        yield* Effect.sleep(1)
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.join(held)
        if (first === "later") {
          while (!slots.every((slot) => slot.waitsForTurn) || ran > 0) yield* Effect.sleep(1)
          says = "now"
          // those that have not had their turn yet need no more than it
          const waking = yield* Effect.forkChild(
            Effect.forever(
              Effect.andThen(
                Effect.sync(() => suspects.cameBack()),
                Effect.sleep(1)
              )
            )
          )
          yield* Fiber.joinAll(fibers)
          yield* Fiber.interrupt(waking)
        } else yield* Fiber.joinAll(fibers)
        assert.strictEqual(ran, 5_000)
        const last = yield* Effect.forkChild(suspects.guard(slotOf(6_000), Effect.void, noTurn))
        yield* Fiber.join(last)
      })
    )
  }

  it("one that is committed does not come again, and is suspected no more", () => {
    const suspects = new Suspects()
    suspects.add([slotOf(1), slotOf(7)])
    suspects.committed({ topic: "t", partition: 1 }, 100n)
    suspects.committed({ topic: "t", partition: 0 }, 7n)
    assert.isTrue(suspects.some)
    suspects.committed({ topic: "t", partition: 0 }, 8n)
    assert.isFalse(suspects.some)
  })

  it.effect(
    "D38: another record that has its offset later, in a log that was cut or created again, is not suspected",
    () =>
      Effect.gen(function* () {
        const suspects = new Suspects()
        const first = slotOf(1)
        for (let i = 0; i < 2; i++) suspects.add([first])
        const running = yield* Effect.forkChild(suspects.guard(first, Effect.never, noTurn))
        yield* turns
        suspects.add([first])
        yield* Fiber.interrupt(running)
        const another = { ...recordAt(0, 1), timestamp: first.timestamp + 1n } as unknown as Slot
        assert.strictEqual(yield* suspects.guard(another, Effect.succeed("ran"), noTurn), "ran")
        assert.isTrue(Exit.isFailure(yield* Effect.exit(suspects.guard(first, Effect.void, noTurn))))
      })
  )

  for (const [title, after, early] of [
    ["returns at once", Effect.void, false],
    ["returns later", Effect.yieldNow, false],
    ["fails", Effect.fail(new Boom()), false],
    ["goes on", Effect.never, false],
    ["gives back what it is to do", Effect.void, true]
  ] as const) {
    it.effect(`D38: a handler that blocks the event loop and then ${title} costs three sessions, and no more`, () =>
      Effect.gen(function* () {
        const loop = yield* eventLoop
        const w = yield* Effect.provideService(world(), Clock.Clock, loop.clock)
        w.expect("passedOver")
        yield* w.produce(1)
        const asked: Array<string> = []
        let times = 0
        const a: Member = yield* w.member("a", {
          batchInterval: "1 hour",
          policy: FailurePolicy.make(({ cause, kind }: Failure<Boom>) => {
            asked.push(kind)
            return String(Cause.squash(cause)).includes("3 times")
              ? { _tag: "Skip" }
              : { _tag: "Retry", after: "1 day" }
          }),
          handler: Handler.make("t", () => {
            const blocks = () => {
              times++
              loop.block(40_000)
              return after
            }
            return early ? blocks() : Effect.suspend(blocks)
          })
        })
        for (let lost = 1; lost <= 3; lost++) {
          yield* pass(100)
          assert.strictEqual(times, lost)
          yield* a.session().evict
          yield* passUntil("joined again", () => a.rows.filter((row) => row === "partition:P2").length > lost, 60_000)
        }
        yield* pass(1_000)
        assert.strictEqual(times, 3)
        assert.strictEqual(asked.at(-1), "defect")
        yield* pass(3_700_000)
        assert.strictEqual((yield* a.consumer.snapshot).outcomes.skipped, 1)
        assert.strictEqual(w.committed(), 1)
      })
    )
  }

  it("only so many are remembered", () => {
    const suspects = new Suspects()
    for (let i = 0; i < 20_000; i++) suspects.add([slotOf(i)])
    suspects.add([slotOf(0)])
    suspects.clear(recordAt(0, 0))
    for (let i = 10_001; i < 20_000; i++) suspects.clear(recordAt(0, i))
    assert.isFalse(suspects.some)
  })

  it.effect(
    "a clock that is far ahead at its next look tells that the event loop stood still; one that ticks does not",
    () =>
      Effect.gen(function* () {
        let offset = 0
        const clock = yield* TestClock.testClockWith(Effect.succeed)
        const run = {
          ticks: () => clock.currentTimeMillisUnsafe() + offset,
          session: { settings: { sessionTimeout: 8_000 } }
        } as unknown as RunState
        const standstill = new Standstill(run)
        yield* Effect.forkChild(standstill.watch)
        yield* TestClock.adjust(60_000)
        assert.isFalse(standstill.happened)
        offset = 4_000
        assert.isTrue(standstill.happened)
        yield* TestClock.adjust(7_000)
        assert.isTrue(standstill.happened)
        yield* TestClock.adjust(3_000)
        assert.isFalse(standstill.happened)
      })
  )

  it.effect(
    "D38: through the engine: the third loss is the last, then the policy is asked, and who only ran beside it is handled",
    () =>
      Effect.gen(function* () {
        const loop = yield* eventLoop
        const w = yield* Effect.provideService(world(), Clock.Clock, loop.clock)
        w.expect("passedOver")
        yield* w.produce(2)
        const failures: Array<Failure<Boom>> = []
        const a = yield* w.member("a", {
          policy: FailurePolicy.make((failure: Failure<Boom>) => {
            failures.push(failure)
            return { _tag: "Skip" }
          })
        })
        for (let lost = 1; lost <= 3; lost++) {
          yield* pass(1_000)
          assert.include(a.desk.running, "0:0")
          // twice suspected, it runs alone
          assert.strictEqual(a.desk.running.length, lost < 3 ? 2 : 1)
          assert.deepInclude((yield* a.consumer.snapshot).permits, { used: 2, waitingForTurn: lost < 3 ? 0 : 1 })
          assert.strictEqual(failures.length, 0)
          loop.block(40_000)
          yield* a.session().evict
          yield* passUntil("joined again", () => a.rows.filter((row) => row === "partition:P2").length > lost, 60_000)
        }
        yield* pass(1_000)
        const starts = (place: string): number => a.desk.started.filter((started) => started === place).length
        assert.strictEqual(starts("0:0"), 3)
        const [failure] = failures
        assert.strictEqual(failures.length, 1)
        assert.deepInclude(failure, { kind: "defect", attempt: 1 })
        assert.strictEqual(failure!.record.offset, 0n)
        assert.include(String(Cause.squash(failure!.cause)), "3 times")
        assert.deepStrictEqual(a.desk.running, ["0:1"])
        yield* a.desk.finish(0, 1)
        yield* pass(11_000)
        assert.deepStrictEqual((yield* a.consumer.snapshot).outcomes, ended({ handled: 1, skipped: 1 }))
        assert.strictEqual(w.committed(), 2)
      })
  )

  for (const [what, which] of [
    ["its consumer", undefined],
    ["its partition", [{ topic: "t", partition: 0 }]]
  ] as const) {
    it.effect(
      `C32, D38: one whose turn comes while ${what} is paused goes on, as all that is in flight, and keeps no permit`,
      () =>
        Effect.gen(function* () {
          const loop = yield* eventLoop
          const w = yield* Effect.provideService(world(), Clock.Clock, loop.clock)
          w.expect("passedOver")
          yield* w.produce(2)
          const a = yield* w.member("a")
          for (let lost = 1; lost <= 2; lost++) {
            yield* pass(1_000)
            loop.block(40_000)
            yield* a.session().evict
            yield* passUntil("joined again", () => a.rows.filter((row) => row === "partition:P2").length > lost, 60_000)
          }
          yield* pass(1_000)
          assert.deepStrictEqual(a.desk.running, ["0:0"])
          yield* a.consumer.pause(which)
          yield* a.desk.finish(0, 0)
          yield* pass(1_000)
          assert.deepStrictEqual(a.desk.running, ["0:1"])
          yield* a.desk.finish(0, 1)
          yield* pass(11_000)
          assert.deepInclude((yield* a.consumer.snapshot).permits, { used: 0, waitingForTurn: 0 })
          assert.strictEqual(w.committed(), 2)
        })
    )
  }

  it.effect("P8, D38: a revoke waits for one that has begun late, as long as for any other", () =>
    Effect.gen(function* () {
      const loop = yield* eventLoop
      const w = yield* Effect.provideService(world(), Clock.Clock, loop.clock)
      w.expect("passedOver")
      yield* w.produce(2)
      const a = yield* w.member("a")
      for (let lost = 1; lost <= 2; lost++) {
        yield* pass(1_000)
        loop.block(40_000)
        yield* a.session().evict
        yield* passUntil("joined again", () => a.rows.filter((row) => row === "partition:P2").length > lost, 60_000)
      }
      // longer than a drain
      yield* pass(60_000)
      yield* a.desk.finish(0, 0)
      yield* pass(1_000)
      assert.deepStrictEqual(a.desk.running, ["0:1"])
      yield* w.kafka.rebalance("g")
      yield* passUntil("it is going away", () => a.rows.includes("partition:P6"), 60_000)
      yield* pass(500)
      yield* a.desk.finish(0, 1)
      yield* passUntil("it is back", () => a.rows.includes("partition:P13"), 60_000)
      assert.include(a.rows, "partition:P8")
      assert.notInclude(a.rows, "partition:P9")
    })
  )

  it.effect(
    "P5, D38: one whose turn comes while its partition is going away begins only when that has come back, and nobody waits for it",
    () =>
      Effect.gen(function* () {
        const loop = yield* eventLoop
        const w = yield* Effect.provideService(world(), Clock.Clock, loop.clock)
        w.expect("passedOver")
        yield* w.produce(2)
        const a = yield* w.member("a")
        for (let lost = 1; lost <= 2; lost++) {
          yield* pass(1_000)
          loop.block(40_000)
          yield* a.session().evict
          yield* passUntil("joined again", () => a.rows.filter((row) => row === "partition:P2").length > lost, 60_000)
        }
        yield* pass(1_000)
        assert.deepStrictEqual(a.desk.running, ["0:0"])
        const begun = a.desk.started.length
        yield* w.kafka.rebalance("g")
        yield* passUntil("it is going away", () => a.rows.includes("partition:P6"), 60_000)
        yield* a.desk.finish(0, 0)
        // the revoke is answered as if there were no other record
        const back = () => a.rows.includes("partition:P13")
        yield* passUntil("it has come back", () => back() || a.desk.started.length > begun, 1_000)
        assert.isTrue(back())
        yield* pass(1_000)
        assert.deepStrictEqual(a.desk.running, ["0:1"])
        assert.strictEqual(a.desk.started.length, begun + 1)
        yield* a.desk.finish(0, 1)
        yield* pass(11_000)
        assert.strictEqual(w.committed(), 2)
      })
  )

  it.effect("sessions that are lost while the event loop turns say nothing of a record", () =>
    Effect.gen(function* () {
      const { member, produce } = yield* world()
      const desk = new Desk()
      yield* produce(1)
      const a = yield* member("a", { desk })
      yield* turns
      for (let i = 0; i < 5; i++) {
        yield* a.session().evict
        yield* TestClock.adjust(60_000)
        yield* turns
      }
      assert.isAtLeast(desk.attempts.length, 4)
      yield* desk.finishAll()
      assert.strictEqual((yield* a.consumer.snapshot).outcomes.handled, 1)
    })
  )
})
