/** Tests of handlers as users write them: each verb of the kit, and that each assertion can fail. */
import { ConcurrentConsumer } from "@concurrent-kafka/core/ConcurrentConsumer"
import { Directive } from "@concurrent-kafka/core/Directive"
import { FailurePolicy } from "@concurrent-kafka/core/FailurePolicy"
import { Handler } from "@concurrent-kafka/core/Handler"
import { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import { Topic } from "@concurrent-kafka/core/Topic"
import { TestKit } from "@concurrent-kafka/testing"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"

class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", {}) {}
class Shop extends Context.Service<
  Shop,
  {
    readonly shipped: Array<number>
    readonly missing: Set<number>
    readonly ship: (id: number) => Effect.Effect<void, OutOfStock>
  }
>()("test/Shop") {
  static readonly layer = Layer.sync(Shop, () => {
    const shipped: Array<number> = []
    const missing = new Set<number>()
    return Shop.of({
      shipped,
      missing,
      ship: (id) =>
        Effect.andThen(
          Effect.sleep(100),
          Effect.suspend(() =>
            missing.has(id) ? Effect.fail(new OutOfStock()) : Effect.sync(() => void shipped.push(id))
          )
        )
    })
  })
}

const Orders = Topic.make("orders", {
  key: Schema.NullOr(Schema.String),
  value: Topic.json(Schema.Struct({ id: Schema.Number }))
})
const shipOrder = Topic.handler(
  Orders,
  Effect.fnUntraced(function* ({ id }) {
    const shop = yield* Shop
    yield* shop.ship(id)
  })
)
const policy = FailurePolicy.retry(Schedule.spaced("1 second").pipe(Schedule.upTo({ times: 2 }))).pipe(
  FailurePolicy.orDeadLetter("orders.dead-letter")
)
const options = { groupId: "shipping", onFailure: policy } as const

const ids = (...of: ReadonlyArray<number>) => of.map((id) => ({ id }))

/** The text with which an assertion fails. */
const textOf = <A, E extends { readonly message: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.message)

describe("a kit", () => {
  it.effect("hands records to the handler, and tells what became of them", () =>
    Effect.gen(function* () {
      const kit = yield* TestKit.make(shipOrder, options)
      assert.deepStrictEqual(yield* kit.produce(Orders, { id: 1 }, { key: "a" }), {
        topic: "orders",
        partition: 0,
        offset: 0n
      })
      yield* kit.produce("orders", [{ value: `{"id":2}` }, { value: "{" }])
      yield* kit.settled
      yield* kit.expect(Orders, { running: ids(1, 2), retrying: ["{"], handled: [] })
      yield* kit.advance("100 millis")
      yield* kit.expect(Orders, {
        handled: ids(1, 2),
        retrying: ["{"],
        attempts: [
          [{ id: 1 }, 1],
          ["{", 1]
        ]
      })
      yield* kit.expect("orders", { handled: [`{"id":1}`, `{"id":2}`] })
      assert.deepStrictEqual((yield* Shop).shipped, [1, 2])
      const [first, , poison] = yield* kit.records(Orders)
      assert.deepStrictEqual(first!.attempts, [
        { attempt: 1, member: "m1", startedAt: 0, endedAt: 100, end: "handled", error: undefined }
      ])
      assert.strictEqual(poison!.attempts[0]!.error, "DecodeError")
      assert.deepStrictEqual(
        (yield* kit.records(Orders, "retrying")).map(({ value }) => value),
        ["{"]
      )
    }).pipe(Effect.provide(Shop.layer))
  )

  it.effect("moves the clock through retries to the dead letter", () =>
    Effect.gen(function* () {
      const kit = yield* TestKit.make(shipOrder, options)
      const shop = yield* Shop
      shop.missing.add(2)
      yield* Effect.forEach(ids(1, 2), (order) => kit.produce(Orders, order))
      yield* kit.advance("500 millis")
      yield* kit.expect(Orders, { handled: ids(1), retrying: ids(2) })
      yield* kit.expectHealth("retrying")
      yield* kit.advance("2 seconds")
      yield* kit.expect(Orders, { handled: ids(1), deadLettered: ids(2), attempts: [[{ id: 2 }, 3]] })
      yield* kit.expectDeadLetters(Orders, ids(2))
      const [letter] = yield* kit.deadLetters(Orders)
      assert.strictEqual(letter!.topic, "orders.dead-letter")
      assert.deepInclude(letter!.letter, {
        topic: "orders",
        partition: 0,
        offset: 1n,
        attempts: 3,
        error: "OutOfStock"
      })
      yield* kit.expectHealth()
      yield* kit.caughtUp()
      yield* kit.expectCommitted()
      yield* kit.expectCommitted("orders", [2n])
      assert.deepStrictEqual(yield* kit.committed, [
        { groupId: "shipping", topic: "orders", partition: 0, committed: 2n, end: 2n }
      ])
    }).pipe(Effect.provide(Shop.layer))
  )

  it.effect("tells skipped, parked, filtered and stopped records apart", () =>
    Effect.gen(function* () {
      const handler = Handler.make("letters", (record) => {
        const text = new TextDecoder().decode(record.value!)
        return text === "skip" ? Directive.skip("it said so") : text === "park" ? Effect.fail("no") : Effect.void
      })
      const kit = yield* TestKit.make(handler, {
        groupId: "g",
        headerFilter: ({ value }) => new TextDecoder().decode(value!) !== "foreign",
        onFailure: FailurePolicy.park({ atMostFor: "1 minute" }).pipe(FailurePolicy.orSkip)
      })
      yield* kit.produce(
        "letters",
        ["foreign", "skip", "park", "good"].map((value) => ({ value }))
      )
      yield* kit.settled
      yield* kit.expect("letters", { filtered: ["foreign"], skipped: ["skip"], parked: ["park"], handled: ["good"] })
      yield* kit.expectHealth("parked")
      yield* kit.advance("61 seconds")
      yield* kit.expect("letters", { parked: [], skipped: ["skip", "park"] })
      yield* kit.caughtUp()
      yield* kit.expectCommitted()

      const stopping = yield* TestKit.make(handler, { groupId: "g", onFailure: FailurePolicy.stop })
      assert.isUndefined(yield* stopping.failure)
      yield* stopping.produce("letters", { value: "park" })
      yield* stopping.settled
      yield* stopping.expect("letters", { stopped: ["park"] })
      const failure = yield* stopping.failure
      assert.strictEqual(failure?._tag === "ConsumerError" ? failure.reason._tag : undefined, "Stopped")
    })
  )

  it.effect("kills a process so that nothing of it goes on, and gives it a second life", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const note = (text: string) => Effect.sync(() => void log.push(text))
      const handler = Handler.make("t", (record) =>
        note("begins").pipe(
          Effect.andThen(record.offset === 0n ? Effect.sleep(100) : Effect.promise(() => Promise.resolve())),
          Effect.andThen(note("ends")),
          Effect.onExit(() => note("finalizer"))
        )
      )
      const kit = yield* TestKit.make(handler, { groupId: "g" })
      yield* kit.produce("t", { value: "a" })
      yield* kit.advance("50 millis")
      assert.deepStrictEqual(log, ["begins"])
      yield* kit.crash
      yield* kit.advance("1 second")
      assert.deepStrictEqual(log, ["begins", "begins", "ends", "finalizer"])
      const [record] = yield* kit.records("t")
      assert.deepStrictEqual(
        record!.attempts.map(({ attempt, end, member }) => [member, attempt, end]),
        [
          ["m1", 1, "killed"],
          ["m1.2", 1, "handled"]
        ]
      )
      yield* kit.expectOnce
      // it was handled and not committed: after another crash it comes again
      yield* kit.crash
      yield* kit.caughtUp()
      yield* kit.expect("t", { handled: ["a"], attempts: [["a", 3]] })
      assert.strictEqual(
        yield* textOf(kit.expectOnce),
        `no record is handled more than once
  expected: 1 time each
  actual:   t/0@0 2 times
  t/0@0 "a" handled, 3 attempts`
      )
    })
  )

  it.effect("closes a process in order for a restart: what was done is committed", () =>
    Effect.gen(function* () {
      const kit = yield* TestKit.make(shipOrder, options)
      yield* kit.produce(Orders, { id: 1 })
      yield* kit.advance("100 millis")
      yield* kit.expectCommitted("orders", [0n])
      yield* kit.restart
      yield* kit.expectCommitted("orders", [1n])
      yield* kit.produce(Orders, { id: 2 })
      yield* kit.caughtUp()
      yield* kit.expectOnce
      assert.deepStrictEqual(
        (yield* kit.records(Orders)).map(({ attempts }) => attempts.map(({ member }) => member)),
        [["m1"], ["m1.2"]]
      )
    }).pipe(Effect.provide(Shop.layer))
  )

  it.effect("shares partitions with members that join, leave and are killed", () =>
    Effect.gen(function* () {
      const kit = yield* TestKit.make(shipOrder, options, { topics: { orders: 4 } })
      const second = yield* kit.join
      assert.lengthOf(yield* second.held, 2)
      yield* Effect.forEach([0, 1, 2, 3], (partition) => kit.produce(Orders, { id: partition }, { partition }))
      yield* kit.caughtUp()
      const members = () => Effect.map(kit.records(Orders), (all) => all.map(({ attempts }) => attempts[0]!.member))
      assert.sameMembers(yield* members(), ["m1", "m1", "m2", "m2"])
      yield* second.leave
      yield* kit.produce(Orders, { id: 4 }, { partition: (yield* members()).indexOf("m2") })
      yield* kit.caughtUp()
      assert.lengthOf(
        (yield* members()).filter((member) => member === "m1"),
        3
      )
      const third = yield* kit.join
      const [held] = yield* third.held
      yield* third.kill
      assert.deepStrictEqual(yield* third.held, [])
      yield* kit.produce(Orders, { id: 5 }, { partition: held!.partition })
      yield* kit.caughtUp()
      yield* kit.expectOnce
    }).pipe(Effect.provide(Shop.layer))
  )

  it.effect("rebalances without handling anything twice, and loses its membership with what was not committed", () =>
    Effect.gen(function* () {
      const kit = yield* TestKit.make(shipOrder, options)
      yield* kit.produce(Orders, { id: 1 })
      yield* kit.advance("100 millis")
      yield* kit.rebalance
      yield* kit.expectCommitted()
      yield* kit.produce(Orders, { id: 2 })
      yield* kit.advance("100 millis")
      yield* kit.loseMembership
      yield* kit.caughtUp()
      assert.deepStrictEqual(
        (yield* kit.records(Orders)).map(({ times }) => times),
        [1, 2]
      )
    }).pipe(Effect.provide(Shop.layer))
  )

  it.effect("lets commits and dead letters fail, and shows it in health until they go through", () =>
    Effect.gen(function* () {
      const kit = yield* TestKit.make(
        Handler.make("orders", () => Effect.fail("no")),
        { groupId: "g", batchSize: 1, onFailure: FailurePolicy.deadLetter("dead", { refused: "skip" }) }
      )
      yield* kit.failDeadLetters(1_000)
      yield* kit.produce("orders", { value: "a" })
      yield* kit.advance("20 seconds")
      yield* kit.expect("orders", { sending: ["a"] })
      yield* kit.expectHealth("deadLetterFailing")
      kit.cluster.faults.clear()
      yield* kit.caughtUp()
      yield* kit.expect("orders", { deadLettered: ["a"] })
      yield* kit.failDeadLetters(1, "MESSAGE_TOO_LARGE")
      yield* kit.produce("orders", { value: "b" })
      yield* kit.caughtUp()
      yield* kit.expect("orders", { deadLettered: ["a"], skipped: ["b"] })
      yield* kit.failCommits(1_000)
      yield* kit.produce("orders", { value: "c" })
      yield* kit.advance("20 seconds")
      yield* kit.expectHealth("commitsFailing")
      yield* kit.expectCommitted("orders", [2n])
      kit.cluster.faults.clear()
      yield* kit.caughtUp()
    })
  )

  it.effect("runs a program that takes its Kafka from the context", () =>
    Effect.gen(function* () {
      const forward = Handler.make("in", (record) =>
        Effect.flatMap(KafkaProducer, (producer) =>
          Effect.orDie(producer.send([{ topic: "out", value: record.value }]))
        )
      )
      const program = Layer.mergeAll(
        ConcurrentConsumer.layerHandler(forward, { groupId: "forwarding" }),
        ConcurrentConsumer.layerHandler(
          Handler.make("out", () => Effect.fail("never")),
          { groupId: "reading", onFailure: FailurePolicy.deadLetter("dead") }
        )
      )
      const kit = yield* TestKit.launch(program, { topics: { in: 2, out: 1, dead: 1 } })
      yield* kit.produce("in", { value: "a" })
      yield* kit.crash
      yield* kit.caughtUp()
      yield* kit.expectDeadLetters("out", ["a"])
      assert.lengthOf(yield* kit.snapshots, 2)
      assert.deepStrictEqual((yield* kit.committed).map(({ groupId, topic }) => `${groupId} ${topic}`).sort(), [
        "forwarding in",
        "forwarding in",
        "reading out"
      ])
    })
  )

  it.live("waits on the live clock", () =>
    Effect.gen(function* () {
      const kit = yield* TestKit.make(
        Handler.make("t", () => Effect.sleep(20)),
        { groupId: "g", batchSize: 1 }
      )
      yield* kit.produce("t", { value: "a" })
      yield* kit.settled
      yield* kit.expect("t", { running: ["a"] })
      yield* kit.advance(100)
      yield* kit.expect("t", { handled: ["a"] })
      yield* kit.caughtUp()
    })
  )

  it.effect("fails with the error of the options that are refused", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(TestKit.make(shipOrder, { ...options, concurrency: 0 }))
      assert.strictEqual(error._tag, "InvalidOptions")
      const broken = yield* Effect.flip(
        TestKit.launch(Layer.effectDiscard(Effect.fail(new OutOfStock())), { topics: {} })
      )
      assert.strictEqual(broken._tag, "OutOfStock")
    }).pipe(Effect.provide(Shop.layer))
  )

  it.effect("closes in order, and at last without it", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      yield* Effect.scoped(
        Effect.gen(function* () {
          const kit = yield* TestKit.make(
            Handler.make("t", ({ offset }) =>
              offset === 0n
                ? Effect.onInterrupt(Effect.never, () => Effect.sync(() => void log.push("interrupted")))
                : Effect.uninterruptible(Effect.never)
            ),
            { groupId: "g" }
          )
          yield* kit.produce("t", [{ value: "a" }, { value: "b" }])
          yield* kit.settled
        })
      )
      assert.deepStrictEqual(log, ["interrupted"])
    })
  )
})

describe("the types of a kit", () => {
  it("keep what the handler needs, ask for a policy, and know the values of a topic", () => {
    const made = TestKit.make(shipOrder, options)
    const needs: Effect.Effect<unknown, unknown, Shop | Scope.Scope> = made
    // @ts-expect-error: the shop is not there
    const nothing: Effect.Effect<unknown, unknown, Scope.Scope> = made
    // @ts-expect-error: this handler can fail
    const noPolicy = () => TestKit.make(shipOrder, { groupId: "shipping" })
    const uses = (kit: TestKit) => [
      kit.expect(Orders, { handled: [{ id: 1 }, "what cannot be decoded"] }),
      // @ts-expect-error: an order has a number
      kit.expect(Orders, { handled: [{ id: "1" }] }),
      // @ts-expect-error: so it has here
      kit.produce(Orders, { id: "1" }),
      // @ts-expect-error: a program is not seen into
      Effect.map(TestKit.launch(Layer.empty, { topics: {} }), (program) => program.expect)
    ]
    assert.isDefined([needs, nothing, noPolicy, uses])
  })
})

describe("an assertion of a kit", () => {
  const open = Effect.gen(function* () {
    const kit = yield* TestKit.make(shipOrder, options)
    const shop = yield* Shop
    shop.missing.add(2)
    yield* Effect.forEach(ids(1, 2), (order) => kit.produce(Orders, order))
    yield* kit.advance("500 millis")
    return kit
  })

  it.effect("about records says what was expected, what is there, and what became of each", () =>
    Effect.gen(function* () {
      const kit = yield* open
      assert.strictEqual(
        yield* textOf(kit.expect(Orders, { handled: ids(1, 2) })),
        `the records of orders that are handled
  expected: {"id":1} {"id":2}
  actual:   {"id":1}
  orders/0@0 "{\\"id\\":1}" handled, 1 attempt
  orders/0@1 "{\\"id\\":2}" retrying, 1 attempt, last failed with OutOfStock
  orders/0 is committed to 0 of 2
  health says retrying`
      )
      const error = yield* Effect.flip(kit.expect(Orders, { retrying: [] }))
      assert.strictEqual(error._tag, "ExpectationFailed")
      assert.deepStrictEqual(
        [error.expectation, error.expected, error.actual],
        ["the records of orders that are retrying", [], [{ id: 2 }]]
      )
      assert.include(
        yield* textOf(kit.expect(Orders, { attempts: [[{ id: 2 }, 2]] })),
        `how often records of orders were tried
  expected: [{"id":2},2]
  actual:   [{"id":2},1]`
      )
      // as often as it is named
      assert.include(yield* textOf(kit.expect(Orders, { handled: ids(1, 1) })), `expected: {"id":1} {"id":1}`)
    }).pipe(Effect.provide(Shop.layer))
  )

  it.effect("about commits, dead letters, health and time says the same", () =>
    Effect.gen(function* () {
      const kit = yield* open
      assert.include(
        yield* textOf(kit.expectCommitted()),
        `everything that was produced is committed
  expected: 2n
  actual:   0n`
      )
      assert.include(
        yield* textOf(kit.expectCommitted("orders", [1n])),
        `what is committed of orders, by partition
  expected: 1n
  actual:   0n`
      )
      assert.include(
        yield* textOf(kit.expectDeadLetters(Orders, ids(2))),
        `the records of orders that have dead letters
  expected: {"id":2}
  actual:   none`
      )
      assert.include(
        yield* textOf(kit.expectHealth()),
        `what health says
  expected: none
  actual:   "retrying"`
      )
      assert.include(
        yield* textOf(kit.caughtUp({ within: "1 second" })),
        `everything that was produced is committed
  expected: within 1 s
  actual:   orders/0 is committed to 0 of 2`
      )
    }).pipe(Effect.provide(Shop.layer))
  )

  it.effect("about commits does not hold only because the broker is away", () =>
    Effect.gen(function* () {
      const kit = yield* open
      yield* kit.cluster.brokerDown
      yield* Effect.flip(kit.expectCommitted())
      yield* Effect.flip(kit.caughtUp({ within: "1 second" }))
      yield* kit.expect(Orders, { handled: ids(1) })
      yield* kit.cluster.brokerUp
    }).pipe(Effect.provide(Shop.layer))
  )

  it.effect("about time says what goes on for ever", () =>
    Effect.gen(function* () {
      const kit = yield* TestKit.make(
        Handler.make("t", () => Effect.forever(Effect.yieldNow)),
        { groupId: "g" }
      )
      yield* kit.produce("t", { value: "a" })
      assert.include(
        yield* textOf(kit.settled),
        `nothing is left to do but to wait for the clock
  expected: quiet
  actual:   still busy after 100000 turns
  t/0@0 "a" running, 1 attempt`
      )
    })
  )

  it.effect("about the group says what it waits for", () =>
    Effect.gen(function* () {
      const missing = ConcurrentConsumer.layerHandler(
        Handler.make("missing", () => Effect.void),
        { groupId: "g" }
      )
      assert.include(
        yield* textOf(TestKit.launch(missing, { topics: {} })),
        `the group is at rest
  expected: within 300 s
  actual:   g is starting: `
      )
    })
  )
})
