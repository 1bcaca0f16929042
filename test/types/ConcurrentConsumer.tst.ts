// oxlint-disable typescript/unbound-method -- only their types are looked at
import {
  ConcurrentConsumer,
  type ConcurrentConsumerShape,
  type ConsumerOptions,
  type Failure,
  FailurePolicy,
  type GroupOptions,
  Handler,
  type HandlerOptions,
  type HandlerTimeout,
  type KafkaClient,
  type KafkaClientError,
  type ThisHandlerCanFail
} from "@concurrent-kafka/core"
import type { CommitterDied, ConsumerError, ConsumerSession, InvalidOptions } from "@concurrent-kafka/core"
import { type Config, Context, Data, Effect, type Layer, type Scope } from "effect"
import { describe, expect, test } from "tstyche"

class ShipError extends Data.TaggedError("ShipError")<{ readonly retryable: boolean }> {}
class OtherError extends Data.TaggedError("OtherError")<{ readonly why: string }> {}
class Db extends Context.Service<Db, { readonly query: Effect.Effect<void> }>()("Db") {}

declare const consumer: ConcurrentConsumerShape
declare const number: Config.Config<number>
declare const text: Config.Config<string>

const failing = Handler.make("orders", () => Effect.andThen(Db, Effect.fail(new ShipError({ retryable: true }))))
const sure = Handler.make("orders", () => Effect.void)
const { launch, layer, layerHandler, layerHandlerConfig, layerNoDeps } = ConcurrentConsumer
const groupId = "g"

describe("onFailure", () => {
  test("is required exactly when the handler can fail, and the message names what is missing", () => {
    expect(layerHandler).type.toBeCallableWith(sure, { groupId })
    expect(layerHandler).type.toBeCallableWith(sure, { groupId, onFailure: FailurePolicy.skip })
    expect(layerHandler).type.toBeCallableWith(failing, { groupId, onFailure: FailurePolicy.skip })
    expect(layerHandler).type.not.toBeCallableWith(failing, { groupId })
    // @ts-expect-error Property 'onFailure' is missing in type '{ groupId: string; }' but required in type 'ThisHandlerCanFail<ShipError>'
    layerHandler(failing, { groupId })
    expect<ThisHandlerCanFail<ShipError>>().type.toBe<{ readonly onFailure: NonNullable<unknown> }>()
  })

  test("is asked for by run too", () => {
    expect(consumer.run).type.toBeCallableWith(sure)
    expect(consumer.run).type.toBeCallableWith(sure, {})
    expect(consumer.run).type.toBeCallableWith(failing, { onFailure: FailurePolicy.stop })
    expect(consumer.run).type.not.toBeCallableWith(failing)
    expect(consumer.run).type.not.toBeCallableWith(failing, {})
    expect(consumer.run).type.not.toBeCallableWith(failing, { onFailure: undefined })
    // @ts-expect-error Property 'onFailure' is missing in type '{}' but required in type 'ThisHandlerCanFail<ShipError>'
    void consumer.run(failing, {})
    // @ts-expect-error Expected 2 arguments, but got 1
    void consumer.run(failing)
  })

  test("is asked for by a timeout: it makes the handler fallible", () => {
    const timed = sure.pipe(Handler.timeout("1 second"))
    expect(timed).type.toBe<Handler<HandlerTimeout, never>>()
    expect(layerHandler).type.not.toBeCallableWith(timed, { groupId })
    expect(layerHandler).type.toBeCallableWith(timed, { groupId, onFailure: FailurePolicy.skip })
    expect(failing.pipe(Handler.timeout(5))).type.toBe<Handler<ShipError | HandlerTimeout, Db>>()
  })

  test("refuses a policy for another error, and anything that is no policy", () => {
    const other = FailurePolicy.make((_: Failure<OtherError>) => ({ _tag: "Skip" }))
    expect(layerHandler).type.not.toBeCallableWith(failing, { groupId, onFailure: other })
    expect(layerHandler).type.not.toBeCallableWith(failing, { groupId, onFailure: "skip" })
    expect(layerHandler).type.not.toBeCallableWith(failing, { groupId, onFailure: () => ({ _tag: "Skip" }) })
    expect(layerHandler).type.not.toBeCallableWith(failing, { groupId, onFailure: undefined })
  })

  test("infers the error of an inline policy", () => {
    layerHandler(failing, {
      groupId,
      onFailure: FailurePolicy.make((failure) => {
        expect(failure).type.toBeAssignableTo<Failure<ShipError>>()
        expect(failure).type.not.toBeAssignableTo<Failure<OtherError>>()
        return { _tag: "Skip" }
      })
    })
    layerHandler(failing, {
      groupId,
      onFailure: FailurePolicy.make(({ error }) =>
        error._tag === "Some" && error.value.retryable ? { _tag: "Stop" } : { _tag: "Skip" }
      )
    })
  })

  test("a policy answers with a decision that there is", () => {
    expect(FailurePolicy.make).type.not.toBeCallableWith(() => ({ _tag: "Ignore" }))
    expect(FailurePolicy.make).type.not.toBeCallableWith(() => undefined)
    expect(FailurePolicy.make(() => Effect.succeed({ _tag: "Skip" as const }))).type.toBe<
      FailurePolicy<unknown, never>
    >()
    expect(FailurePolicy.make(() => Effect.as(Db, { _tag: "Stop" as const }))).type.toBe<FailurePolicy<unknown, Db>>()
    // what a policy's effect fails with would be nobody's
    expect(FailurePolicy.make).type.not.toBeCallableWith(() => Effect.fail(new OtherError({ why: "" })))
  })
})

describe("options", () => {
  test("a misspelt one or a wrong value does not compile", () => {
    expect(layerHandler).type.not.toBeCallableWith(sure, { groupId, concurency: 3 })
    expect(layerHandler).type.not.toBeCallableWith(failing, {
      groupId,
      ordering: "keys",
      onFailure: FailurePolicy.skip
    })
    expect(layerHandler).type.not.toBeCallableWith(sure, { groupId, concurrency: "many" })
    expect(layerHandler).type.not.toBeCallableWith(sure, { groupId, startFrom: 5 })
    expect(layerHandler).type.not.toBeCallableWith(sure, {})
    expect(layerHandler).type.not.toBeCallableWith(sure, { groupId, health: { readyNeeds: ["sick"] } })
    // @ts-expect-error 'concurency' does not exist in type
    layerHandler(sure, { groupId, concurency: 3 })
    // @ts-expect-error Type '"keys"' is not assignable to type 'Ordering | undefined'. Did you mean '"key"'?
    layerHandler(failing, { groupId, ordering: "keys", onFailure: FailurePolicy.skip })
    // topics are names
    expect(layer).type.not.toBeCallableWith({ groupId, topics: [/orders/] })
    expect(layer).type.not.toBeCallableWith({ groupId, topics: /orders/ })
    // the topics are the handler's
    expect(layerHandler).type.not.toBeCallableWith(sure, { groupId, topics: ["orders"] })
    expect(layer).type.not.toBeCallableWith({ groupId })
  })

  test("an offset is a bigint", () => {
    const partition = { topic: "orders", partition: 0 }
    expect(consumer.seek).type.toBeCallableWith(partition, 5n)
    expect(consumer.seek).type.toBeCallableWith(partition, "end")
    expect(consumer.seek).type.not.toBeCallableWith(partition, 5)
    expect(consumer.seek).type.not.toBeCallableWith(partition, "latest")
  })

  test("a plain function is no handler", () => {
    expect(layerHandler).type.not.toBeCallableWith(() => Effect.void, { groupId })
    expect(consumer.run).type.not.toBeCallableWith(() => Effect.void)
  })

  test("undefined may stand for what is left out", () => {
    expect<{ groupId: string; concurrency: undefined; batchSize: undefined }>().type.toBeAssignableTo<GroupOptions>()
    expect<{ onEnd: undefined; groupId: string }>().type.toBeAssignableTo<HandlerOptions>()
  })

  test("wrap keeps the effect's types", () => {
    expect<ConsumerOptions>().type.toBeAssignableFrom({
      wrap: <E, R>(effect: Effect.Effect<void, E, R>): Effect.Effect<void, E, R> => effect
    })
    expect<ConsumerOptions>().type.not.toBeAssignableFrom({
      wrap: <E, R>(effect: Effect.Effect<void, E, R>): Effect.Effect<void, E | OtherError, R | Db> =>
        Effect.andThen(Db, Effect.andThen(effect, Effect.fail(new OtherError({ why: "" }))))
    })
  })

  test("members are of a group, not of a session that is given", () => {
    expect(layer).type.toBeCallableWith({ groupId, topics: ["orders"], members: 4 })
    expect(layerHandler).type.toBeCallableWith(sure, { groupId, members: 4 })
    expect(layerHandlerConfig).type.toBeCallableWith(sure, { groupId, members: number })
    expect(layerHandler).type.not.toBeCallableWith(sure, { groupId, members: "all" })
    expect(layerNoDeps).type.not.toBeCallableWith({ members: 4 })
  })

  test("each may be a Config", () => {
    expect(layerHandlerConfig).type.toBeCallableWith(sure, { groupId: text, concurrency: number, batchSize: 5 })
    expect(layerHandlerConfig).type.toBeCallableWith(failing, {
      groupId,
      concurrency: number,
      onFailure: FailurePolicy.skip
    })
    expect(layerHandlerConfig).type.not.toBeCallableWith(failing, { groupId, concurrency: number })
    expect(layerHandlerConfig).type.not.toBeCallableWith(sure, { groupId: number })
    expect(layerHandlerConfig(sure, { groupId: text })).type.toBe<
      Layer.Layer<never, InvalidOptions | KafkaClientError | Config.ConfigError, KafkaClient>
    >()
  })
})

describe("layers", () => {
  test("say what they need and how they can fail", () => {
    expect(layerHandler(sure, { groupId })).type.toBe<
      Layer.Layer<never, InvalidOptions | KafkaClientError, KafkaClient>
    >()
    expect(layerHandler(failing, { groupId, onFailure: FailurePolicy.skip })).type.toBe<
      Layer.Layer<never, InvalidOptions | KafkaClientError, KafkaClient | Db>
    >()
    const policy = FailurePolicy.make((_: Failure<ShipError>) => Effect.as(Db, { _tag: "Skip" as const }))
    const plain = Handler.make("orders", () => Effect.fail(new ShipError({ retryable: false })))
    expect(layerHandler(plain, { groupId, onFailure: policy })).type.toBe<
      Layer.Layer<never, InvalidOptions | KafkaClientError, KafkaClient | Db>
    >()
    expect(layer({ groupId, topics: ["t"] })).type.toBe<
      Layer.Layer<ConcurrentConsumer, InvalidOptions | KafkaClientError, KafkaClient>
    >()
    expect<Layer.Services<ReturnType<typeof layerNoDeps>>>().type.toBeAssignableFrom<ConsumerSession>()
    expect<Layer.Services<ReturnType<typeof layerNoDeps>>>().type.not.toBeAssignableFrom<KafkaClient>()
  })

  test("run needs what the handler and the policy need, and fails with what stops a consumer", () => {
    expect(consumer.run(failing, { onFailure: FailurePolicy.skip })).type.toBe<
      Effect.Effect<void, ConsumerError | CommitterDied, Db>
    >()
    expect(consumer.run(sure)).type.toBe<Effect.Effect<void, ConsumerError | CommitterDied>>()
  })

  test("a Scope in the handler is the attempt's: nobody else has to give one", () => {
    const scoped = Handler.make("orders", () => Effect.acquireRelease(Db, () => Effect.void))
    expect(scoped).type.toBe<Handler<never, Db>>()
    expect<
      Layer.Services<ReturnType<typeof layerHandler<never, Db, never>>>
    >().type.not.toBeAssignableFrom<Scope.Scope>()
  })

  test("launch runs what needs nothing more than its layer, and adds how a consumer can end", () => {
    expect(launch(layerHandler(sure, { groupId }))).type.toBe<
      Effect.Effect<never, InvalidOptions | KafkaClientError | ConsumerError | CommitterDied, KafkaClient>
    >()
  })

  test("Tag makes services of their own", () => {
    class Shipping extends ConcurrentConsumer.Tag<Shipping>()("app/Shipping") {}
    class Billing extends ConcurrentConsumer.Tag<Billing>()("app/Billing") {}
    expect(Shipping.layer({ groupId, topics: ["t"] })).type.toBe<
      Layer.Layer<Shipping, InvalidOptions | KafkaClientError, KafkaClient>
    >()
    expect(Shipping.layer({ groupId, topics: ["t"] })).type.not.toBeAssignableTo<
      Layer.Layer<Billing, InvalidOptions | KafkaClientError, KafkaClient>
    >()
    expect(Shipping.layerHandler).type.not.toBeCallableWith(failing, { groupId })
    expect(Shipping.layerHandler(failing, { groupId, onFailure: FailurePolicy.skip })).type.toBe<
      Layer.Layer<Shipping, InvalidOptions | KafkaClientError, KafkaClient | Db>
    >()
    const shape = Effect.gen(function* () {
      return yield* Shipping
    })
    expect(shape).type.toBe<Effect.Effect<ConcurrentConsumerShape, never, Shipping>>()
  })
})
