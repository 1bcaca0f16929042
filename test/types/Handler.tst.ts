// oxlint-disable typescript/unbound-method -- only their types are looked at
import {
  type Delivery,
  Handler,
  type HandlerTimeout,
  type Session,
  type SessionOptions,
  type TopicPartition
} from "@concurrent-kafka/core"
import { Context, Data, Effect } from "effect"
import { describe, expect, test } from "tstyche"

class A extends Data.TaggedError("A")<{ readonly a: number }> {}
class B extends Data.TaggedError("B")<{ readonly b: string }> {}
class Db extends Context.Service<Db, { readonly query: Effect.Effect<void, B> }>()("Db") {}

describe("Handler", () => {
  test("a handler that returns one of several effects infers the union", () => {
    const one = Handler.make("orders", (record) =>
      record.value === null
        ? Effect.fail(new A({ a: 1 }))
        : record.attempt > 1
          ? Effect.fail(new B({ b: "" }))
          : Effect.void
    )
    expect(one).type.toBe<Handler<A | B, never>>()
    const mixed = Handler.make("orders", (record) =>
      record.key === null
        ? Effect.void
        : Effect.gen(function* () {
            const db = yield* Db
            yield* db.query
          })
    )
    expect(mixed).type.toBe<Handler<B, Db>>()
  })

  test("an Effect.fnUntraced is a handler's function", () => {
    const handler = Handler.make(
      ["orders", "returns"],
      Effect.fnUntraced(function* (record: Delivery) {
        yield* Effect.log(record.offset)
        return yield* new A({ a: 2 })
      })
    )
    expect(handler).type.toBe<Handler<A, never>>()
  })

  test("gives back its error and its needs", () => {
    const handler = Handler.make("orders", () => Effect.flatMap(Db, (db) => db.query))
    expect<Handler.Error<typeof handler>>().type.toBe<B>()
    expect<Handler.Services<typeof handler>>().type.toBe<Db>()
    expect<Handler<A, Db>>().type.toBeAssignableTo<Handler.Any>()
  })

  test("a timeout adds its error once, and keeps the needs", () => {
    const handler = Handler.make("orders", () => Effect.flatMap(Db, (db) => db.query))
    expect(handler.pipe(Handler.timeout("2 seconds"), Handler.timeout(500))).type.toBe<
      Handler<B | HandlerTimeout, Db>
    >()
    expect(Handler.timeout).type.not.toBeCallableWith({ seconds: "two" })
  })

  test("topics are names: a regular expression is none, and there is one at least", () => {
    expect(Handler.make).type.not.toBeCallableWith(/orders/, () => Effect.void)
    expect(Handler.make).type.not.toBeCallableWith([/orders/], () => Effect.void)
    expect(Handler.make).type.not.toBeCallableWith([], () => Effect.void)
    expect<{ groupId: string; topics: [RegExp] }>().type.not.toBeAssignableTo<SessionOptions>()
    expect<{ groupId: string; topics: [string] }>().type.toBeAssignableTo<SessionOptions>()
  })

  test("is made of a function of a record that gives an effect", () => {
    expect(Handler.make).type.not.toBeCallableWith("orders", async () => {})
    expect(Handler.make).type.not.toBeCallableWith("orders", Effect.void)
    expect(Handler.make).type.not.toBeCallableWith("orders", (record: string) => Effect.succeed(record))
  })

  test("can fail with more than another, need more, but not the other way round", () => {
    expect<Handler<never, never>>().type.toBeAssignableTo<Handler<A, Db>>()
    expect<Handler<A, never>>().type.not.toBeAssignableTo<Handler<never, never>>()
    expect<Handler<never, Db>>().type.not.toBeAssignableTo<Handler<never, never>>()
  })

  test("a delivery acknowledges without an error, and its offset is a bigint", () => {
    expect<Delivery["ack"]>().type.toBe<Effect.Effect<void>>()
    expect<Delivery["offset"]>().type.toBe<bigint>()
    expect<Delivery>().type.toBeAssignableTo<TopicPartition>()
    expect<Session["beginUnsafe"]>().type.not.toBeCallableWith([{ topic: "t", partition: 0, epoch: 1, offset: 5 }])
    expect<Session["beginUnsafe"]>().type.toBeCallableWith([{ topic: "t", partition: 0, epoch: 1, offset: 5n }])
  })
})
