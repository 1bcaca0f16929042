/** Handlers with bugs that only some histories show, and that they are found; handlers without, and that they pass. */
import { Directive } from "@concurrent-kafka/core/Directive"
import { FailurePolicy } from "@concurrent-kafka/core/FailurePolicy"
import { Handler } from "@concurrent-kafka/core/Handler"
import { Topic } from "@concurrent-kafka/core/Topic"
import { type Chance, type Produced, simulate, SimulationFailed } from "@concurrent-kafka/testing"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"

const Payment = Schema.Struct({ id: Schema.String, account: Schema.String, amount: Schema.Number })
const Payments = Topic.make("payments", { key: Schema.String, value: Topic.json(Payment) })

const text = (bytes: Uint8Array | null) => new TextDecoder().decode(bytes ?? new Uint8Array())

class States extends Context.Service<States, Map<string, number>>()("test/States") {}
class Memory extends Context.Service<Memory, Set<string>>()("test/Memory") {}

/** A database, as a table of balances and one of the payments that were booked. */
class Bank extends Context.Service<Bank, { readonly balances: Map<string, number>; readonly booked: Set<string> }>()(
  "test/Bank"
) {
  static readonly layer = Layer.sync(Bank, () => Bank.of({ balances: new Map(), booked: new Set() }))
}

const records = (chance: Chance) =>
  chance.list(1, 20, (i) => {
    const account = chance.pick(["a", "b", "c"])
    return chance.record(Payments, { id: `p${i}`, account, amount: chance.int(1, 9) }, { key: account })
  })

const check = Effect.fnUntraced(function* (produced: ReadonlyArray<Produced<typeof Payment.Type>>) {
  const { balances } = yield* Bank
  const expected = new Map<string, number>()
  for (const { value } of produced) expected.set(value.account, (expected.get(value.account) ?? 0) + value.amount)
  for (const [account, balance] of expected) {
    if (balances.get(account) !== balance) {
      return yield* Effect.fail(
        new Error(`account ${account} has ${balances.get(account)}, and should have ${balance}`)
      )
    }
  }
})

const add = (bank: Bank["Service"], { account, amount }: typeof Payment.Type) =>
  Effect.sync(() => bank.balances.set(account, (bank.balances.get(account) ?? 0) + amount))

/** Looks first, and writes it down last: a crash between the two books twice. */
const bookTwice = Topic.handler(
  Payments,
  Effect.fnUntraced(function* (payment) {
    const bank = yield* Bank
    if (bank.booked.has(payment.id)) return
    yield* add(bank, payment)
    yield* Effect.sync(() => bank.booked.add(payment.id))
  })
)

/** One instruction: no crash comes between. */
const bookOnce = Topic.handler(
  Payments,
  Effect.fnUntraced(function* (payment) {
    const bank = yield* Bank
    yield* Effect.sync(() => {
      if (bank.booked.has(payment.id)) return
      bank.booked.add(payment.id)
      bank.balances.set(payment.account, (bank.balances.get(payment.account) ?? 0) + payment.amount)
    })
  })
)

const options = { groupId: "booking", ordering: "key", onFailure: FailurePolicy.stop } as const
const booking = { options, records, layer: Bank.layer, check }

describe("simulate", () => {
  it.effect("finds a handler that books twice after a crash, and shows the crash and little else", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(simulate({ ...booking, handler: bookTwice }))
      assert.instanceOf(error, SimulationFailed)
      assert.strictEqual(error.reason, "check")
      assert.isBelow(error.passed, 100)
      assert.isAtMost(error.troubles, 3)
      assert.isAbove(error.troublesBefore, error.troubles)
      assert.isAtMost(error.records, 3)
      assert.instanceOf(error.cause, Error)
      assert.match(
        error.message,
        /^the check failed: account \w has \d+, and should have \d+\nin history \d+.* The shortest that still fails has \d of \d+ troubles and \d of \d+ records/
      )
      assert.match(error.message, /m\d\S* +(is killed|stands still for \d+ ms,) in the middle of a handler\n/)
      assert.include(error.message, `to see it again: seed: ${error.seed}, seeds: 1`)

      const again = yield* Effect.flip(simulate({ ...booking, handler: bookTwice, seed: error.seed, seeds: 1 }))
      assert.instanceOf(again, SimulationFailed)
      assert.deepStrictEqual(again.timeline, error.timeline)
      assert.strictEqual(again.passed, 0)
    })
  )

  it.effect("finds it from wherever it begins", () =>
    Effect.forEach([1000, 2000, 3000], (seed) =>
      Effect.map(Effect.flip(simulate({ ...booking, handler: bookTwice, seed })), (error) => {
        assert.instanceOf(error, SimulationFailed)
        assert.isAtLeast(error.seed, seed)
      })
    )
  )

  it.effect("lets a handler pass that does both in one instruction, and plays 200 histories in some seconds", () =>
    Effect.gen(function* () {
      const began = Date.now()
      const report = yield* simulate({ ...booking, handler: bookOnce, seeds: 200 })
      const seconds = (Date.now() - began) / 1000
      console.log(`200 histories in ${seconds} s: ${JSON.stringify(report)}`)
      // 4 s on two slow cores
      assert.isBelow(seconds, 30)
      assert.strictEqual(report.histories, 200)
      assert.isAbove(report.records, 1_000)
      assert.isAbove(report.runs, report.records)
      assert.isAbove(report.repeated, 100)
      assert.isAbove(report.crashesInHandlers, 50)
      assert.deepStrictEqual(yield* simulate({ ...booking, handler: bookOnce, seeds: 20 }), {
        ...(yield* simulate({ ...booking, handler: bookOnce, seeds: 20 }))
      })
    })
  )

  it.effect("finds a handler that needs an order that it does not have", () =>
    Effect.gen(function* () {
      const order = {
        records: (chance: Chance) =>
          chance.list(2, 10, (version) =>
            chance.record("states", { key: chance.pick(["a", "b"]), value: `${version}` })
          ),
        layer: Layer.sync(States, () => new Map<string, number>()),
        handler: Handler.make("states", ({ key, value }) =>
          Effect.flatMap(States, (states) => Effect.sync(() => void states.set(text(key), Number(text(value)))))
        ),
        check: Effect.fnUntraced(function* (produced: ReadonlyArray<Produced<unknown>>) {
          const states = yield* States
          const newest = Math.max(...produced.map(({ value }) => Number(value)))
          assert.include([...states.values()], newest)
        })
      }
      const error = yield* Effect.flip(simulate({ ...order, options: { groupId: "g" } }))
      assert.instanceOf(error, SimulationFailed)
      assert.isBelow(error.passed, 100)
      assert.isAtMost(error.records, 3)
      yield* simulate({ ...order, options: { groupId: "g", ordering: "key" } })
    })
  )

  it.effect("knows what a process forgets when it is killed from what the world keeps", () =>
    Effect.gen(function* () {
      const seen = Effect.sync(() => new Set<string>())
      const handler = Topic.handler(
        Payments,
        Effect.fnUntraced(function* (payment) {
          const memory = yield* Memory
          if (memory.has(payment.id)) return
          yield* add(yield* Bank, payment)
          memory.add(payment.id)
        })
      )
      const error = yield* Effect.flip(simulate({ ...booking, handler, process: Layer.effect(Memory, seen) }))
      assert.instanceOf(error, SimulationFailed)
    })
  )

  it.effect("goes on where promises resolve, and cuts what lies behind one", () =>
    Effect.gen(function* () {
      const later = Effect.promise(async () => {
        for (let i = 0; i < 3; i++) await Promise.resolve()
      })
      const handler = (book: typeof bookOnce) =>
        Handler.make("payments", (record) => Effect.andThen(later, Effect.andThen(book.handle(record), later)))
      yield* simulate({ ...booking, handler: handler(bookOnce), seeds: 50 })
      yield* Effect.flip(simulate({ ...booking, handler: handler(bookTwice) }))
    })
  )

  it.effect("tells the check what became of each record, dead letters too", () =>
    Effect.gen(function* () {
      const ends: Array<string> = []
      const report = yield* simulate({
        handler: Handler.make("t", ({ value }) =>
          text(value) === "bad" ? Effect.fail("no") : text(value) === "odd" ? Directive.skip("odd") : Effect.sleep(50)
        ),
        options: {
          groupId: "g",
          headerFilter: ({ value }) => text(value) !== "foreign",
          onFailure: FailurePolicy.retry(Schedule.spaced("1 second").pipe(Schedule.upTo({ times: 2 }))).pipe(
            FailurePolicy.orDeadLetter("dead")
          )
        },
        records: (chance) =>
          chance.list(1, 10, () => chance.record("t", { value: chance.pick(["bad", "good", "odd", "foreign"]) })),
        check: (produced) =>
          Effect.sync(() => ends.push(...produced.map(({ status, value }) => `${String(value)} ${status}`))),
        seeds: 50
      })
      assert.deepStrictEqual([...new Set(ends)].sort(), [
        "bad deadLettered",
        "foreign filtered",
        "good handled",
        "odd skipped"
      ])
      assert.isAtLeast(ends.length, report.records)
    })
  )

  it.effect("fails where something is not handled in the end, and says what", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        simulate({
          handler: Handler.make("t", ({ value }) => (text(value) === "7" ? Effect.never : Effect.void)),
          options: { groupId: "g" },
          records: (chance) => chance.list(8, 8, (i) => chance.record("t", { value: `${i}` })),
          check: () => Effect.void
        })
      )
      assert.strictEqual(error.reason, "unfinished")
      assert.deepStrictEqual([error.troubles, error.records], [0, 1])
      assert.match(
        error.message,
        /^not all was handled and committed: t\/\d is committed to 0 of 1, a handler still runs\n/
      )
      assert.include(error.message, "in a history without any trouble")
    })
  )

  it.effect("fails where something goes on for ever without time, and says where", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        simulate({
          handler: Handler.make("t", () => Effect.forever(Effect.yieldNow)),
          options: { groupId: "g" },
          records: (chance) => [chance.record("t", { value: "a" })],
          check: () => Effect.void
        })
      )
      assert.strictEqual(error.reason, "simulator")
      assert.match(error.message, /^the history could not be played to its end: no end of turns at \d+, in m1\n/)
    })
  )

  it.effect("fails with what the check dies with, and with what the layer cannot be built with", () =>
    Effect.gen(function* () {
      const simple = {
        handler: Handler.make("t", () => Effect.void),
        options: { groupId: "g" },
        records: (chance: Chance) => chance.list(1, 2, (i) => chance.record("t", { value: `${i}` })),
        check: () => Effect.sync(() => assert.fail("of no use"))
      }
      const error = yield* Effect.flip(simulate(simple))
      assert.include(error.message, "the check failed: of no use")
      const failed = yield* Effect.flip(simulate({ ...simple, layer: Layer.effectDiscard(Effect.fail("no database")) }))
      assert.strictEqual(failed, "no database")
    })
  )

  it.effect("takes from the caller what no layer provides", () =>
    simulate({ ...booking, layer: undefined, handler: bookOnce, seeds: 1, check: () => Effect.asVoid(Bank) }).pipe(
      Effect.provide(Bank.layer)
    )
  )
})
