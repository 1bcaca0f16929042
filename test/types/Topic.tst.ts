// oxlint-disable typescript/unbound-method -- only their types are looked at
import {
  type CommitterDied,
  ConcurrentConsumer,
  type ConsumerError,
  type DecodeError,
  type Delivery,
  Directive,
  type EncodeError,
  FailurePolicy,
  Handler,
  type HandlerTimeout,
  type Headers,
  type InvalidOptions,
  type KafkaClient,
  type KafkaClientError,
  KafkaProducer,
  type Message,
  type ProducerRecord,
  type PublishError,
  Topic
} from "@concurrent-kafka/core"
import { Config, Context, Effect, type Layer, Schedule, Schema, SchemaGetter } from "effect"
import { describe, expect, test } from "tstyche"

class Order extends Schema.Class<Order>("Order")({ id: Schema.String, amount: Schema.Number }) {}
class ShipError extends Schema.TaggedError<ShipError>()("ShipError", { retryable: Schema.Boolean }) {}
class Shipping extends Context.Service<Shipping, { ship(order: Order): Effect.Effect<void, ShipError> }>()(
  "app/Shipping"
) {}
class Registry extends Context.Service<Registry, { readonly schema: Effect.Effect<number> }>()("Registry") {}
class Keys extends Context.Service<Keys, { readonly sign: Effect.Effect<number> }>()("Keys") {}

const Orders = Topic.make("orders", { key: Schema.String, value: Topic.json(Order) })
const Traced = Topic.make("traced", {
  key: Schema.NullOr(Schema.String),
  value: Topic.json(Order),
  headers: Schema.Struct({ tenant: Schema.String })
})
const groupId = "g"
const { layerHandler } = ConcurrentConsumer

describe("a topic", () => {
  test("has the types of its schemas", () => {
    expect(Orders).type.toBe<Topic<string, Order>>()
    expect(Traced).type.toBe<Topic<string | null, Order, { readonly tenant: string }>>()
    const numbered = Topic.make("t", { key: Schema.NumberFromString, value: Schema.NullOr(Schema.Uint8Array) })
    expect(numbered).type.toBe<Topic<number, Uint8Array<ArrayBufferLike> | null>>()
    expect(Topic.make("t", { key: Schema.Literals(["a", "b"]), value: Topic.json(Schema.Unknown) })).type.toBe<
      Topic<"a" | "b", unknown>
    >()
  })

  test("has what decoding and encoding need", () => {
    const remote = Schema.Uint8Array.pipe(
      Schema.decodeTo(Order, {
        decode: SchemaGetter.transformEffect(() => Effect.as(Registry, { id: "", amount: 1 })),
        encode: SchemaGetter.transformEffect(() => Effect.as(Keys, new Uint8Array(0)))
      })
    )
    const topic = Topic.make("t", { key: Schema.String, value: remote })
    expect(topic).type.toBe<Topic<string, Order, Headers, Registry, Keys>>()
    expect(Topic.handler(topic, () => Effect.void)).type.toBe<Handler<DecodeError, Registry>>()
    expect(Topic.encode(topic, new Order({ id: "", amount: 1 }))).type.toBe<
      Effect.Effect<ProducerRecord, EncodeError, Keys>
    >()
    expect(Topic.decode(topic, { value: null })).type.toBe<
      Effect.Effect<Topic.Decoded<string, Order, Headers>, DecodeError, Registry>
    >()
  })

  test("is made of what is text, bytes or null on the wire", () => {
    const make = Topic.make
    expect(make).type.not.toBeCallableWith("t", { key: Schema.String, value: Order })
    expect(make).type.not.toBeCallableWith("t", { key: Schema.Number, value: Schema.String })
    expect(make).type.not.toBeCallableWith("t", { key: Schema.String, value: Schema.Unknown })
    expect(make).type.not.toBeCallableWith("t", { key: Schema.String })
    expect(make).type.not.toBeCallableWith("t", {
      key: Schema.String,
      value: Schema.String,
      headers: Schema.Struct({ n: Schema.Number })
    })
    expect(make).type.toBeCallableWith("t", {
      key: Schema.Null,
      value: Schema.NullOr(Topic.json(Order)),
      headers: Schema.Struct({
        a: Schema.optionalKey(Schema.String),
        b: Schema.optional(Schema.NullOr(Schema.Uint8Array))
      })
    })
  })

  test("is encoded from its own types", () => {
    const order = new Order({ id: "1", amount: 2 })
    expect(Topic.encode(Traced, order, { key: "1", headers: { tenant: "a" } })).type.toBe<
      Effect.Effect<ProducerRecord, EncodeError>
    >()
    expect(Topic.encode).type.not.toBeCallableWith(Traced, "order")
    expect(Topic.encode).type.not.toBeCallableWith(Traced, order, { key: 5 })
    expect(Topic.encode).type.not.toBeCallableWith(Traced, order, { headers: { tenant: 5 } })
  })
})

describe("a handler of a topic", () => {
  test("is given the topic's types, also through Effect.fnUntraced", () => {
    Topic.handler(
      Traced,
      Effect.fnUntraced(function* (order, message) {
        expect(order).type.toBe<Order>()
        expect(message).type.toBe<Message<string | null, Order, { readonly tenant: string }>>()
        expect(message).type.toBeAssignableTo<Delivery>()
        yield* message.ack
      })
    )
    Topic.handler(Orders, (_, message) => {
      expect(message.decodedHeaders).type.toBe<Headers>()
      return Effect.void
    })
    expect(Topic.handler).type.not.toBeCallableWith(Orders, (order: string) => Effect.succeed(order))
    expect(Topic.handler).type.not.toBeCallableWith(Orders, async () => {})
  })

  test("can always fail, and needs what its function needs", () => {
    const shipOrder = Topic.handler(
      Orders,
      Effect.fnUntraced(function* (order, _message) {
        const shipping = yield* Shipping
        yield* shipping.ship(order)
      })
    )
    expect(shipOrder).type.toBe<Handler<ShipError | DecodeError, Shipping>>()
    const sure = Topic.handler(Orders, () => Effect.void)
    expect(sure).type.toBe<Handler<DecodeError, never>>()
    expect(layerHandler).type.not.toBeCallableWith(sure, { groupId })
    // @ts-expect-error Property 'onFailure' is missing in type '{ groupId: string; }' but required in type 'ThisHandlerCanFail<DecodeError>'
    layerHandler(sure, { groupId })
    const layer = layerHandler(shipOrder, {
      groupId,
      concurrency: 50,
      onFailure: FailurePolicy.retry(Schedule.exponential("200 millis").pipe(Schedule.upTo({ times: 5 }))).pipe(
        FailurePolicy.orDeadLetter("orders.dead-letter")
      )
    })
    expect<Layer.Services<typeof layer>>().type.toBe<KafkaClient | KafkaProducer | Shipping>()
  })

  test("has each attempt's Scope", () => {
    const scoped = Topic.handler(Orders, () => Effect.acquireRelease(Effect.void, () => Effect.void))
    expect(scoped).type.toBe<Handler<DecodeError, never>>()
  })
})

describe("a producer", () => {
  test("publishes what its topic says", () => {
    const publish = Effect.flatMap(KafkaProducer, (producer) =>
      producer.publish(Traced, new Order({ id: "1", amount: 2 }), { key: "1", headers: { tenant: "a" } })
    )
    expect(publish).type.toBe<Effect.Effect<boolean, PublishError | EncodeError, KafkaProducer>>()
    expect<KafkaProducer["Service"]["publish"]>().type.not.toBeCallableWith(Traced, "order")
    expect<KafkaProducer["Service"]["publish"]>().type.not.toBeCallableWith(Traced, new Order({ id: "1", amount: 2 }), {
      headers: { tenant: 5 }
    })
  })
})

describe("a consumer as a service", () => {
  class ShippingConsumer extends ConcurrentConsumer.Tag<ShippingConsumer>()("app/ShippingConsumer") {}
  const shipOrder = Topic.handler(Orders, (order) => Effect.flatMap(Shipping, (shipping) => shipping.ship(order)))

  test("runs a handler of a topic with a policy that parks", () => {
    const program = Effect.flatMap(ShippingConsumer, (consumer) =>
      consumer.run(shipOrder, { onFailure: FailurePolicy.park({ atMost: 100 }).pipe(FailurePolicy.orStop) })
    )
    expect(program).type.toBe<Effect.Effect<void, ConsumerError | CommitterDied, ShippingConsumer | Shipping>>()
  })

  test("takes settings from the environment", () => {
    const layer = ConcurrentConsumer.layerHandlerConfig(shipOrder, {
      groupId: Config.NonEmptyString("SHIPPING_GROUP"),
      concurrency: Config.Int("SHIPPING_CONCURRENCY"),
      onFailure: FailurePolicy.deadLetter("dead")
    })
    expect(layer).type.toBe<
      Layer.Layer<never, InvalidOptions | KafkaClientError | Config.ConfigError, KafkaClient | KafkaProducer | Shipping>
    >()
  })
})

describe("directives", () => {
  const audit = Handler.make("audit", (record) =>
    record.value === null
      ? Directive.skip("tombstone")
      : record.attempt > 3
        ? Directive.deadLetter("audit.dead", "four attempts")
        : Effect.log(record.offset)
  )

  test("are taken out of the errors, and a dead letter needs a producer", () => {
    expect(audit).type.toBe<Handler<never, KafkaProducer>>()
    const skipping = Handler.make("t", () =>
      Effect.andThen(Directive.skip("no"), Effect.fail(new ShipError({ retryable: true })))
    )
    expect(skipping).type.toBe<Handler<ShipError, never>>()
    expect(Handler.make("t", () => Directive.retryAfter("1 second"))).type.toBe<Handler<never, never>>()
    expect(Topic.handler(Orders, () => Directive.deadLetter("d", ""))).type.toBe<Handler<DecodeError, KafkaProducer>>()
    // needs no policy
    const layer = layerHandler(audit, { groupId })
    expect<Layer.Services<typeof layer>>().type.toBe<KafkaClient | KafkaProducer>()
  })

  test("are told from other errors of the same shape", () => {
    interface Alike {
      readonly _tag: "Directive"
      readonly kind: "Skip"
      readonly reason: string
    }
    const alike: Alike = { _tag: "Directive", kind: "Skip", reason: "" }
    expect(Handler.make("t", () => Effect.fail(alike))).type.toBe<Handler<Alike, never>>()
    expect<Directive.Rest<Directive.Any | ShipError>>().type.toBe<ShipError>()
    expect<Directive.Services<Directive.Retry | Directive.Skip | ShipError>>().type.toBe<never>()
    expect<Directive.Services<Directive.Any>>().type.toBe<KafkaProducer>()
    const unknown: unknown = undefined
    if (Directive.isDirective(unknown)) expect(unknown).type.toBe<Directive.Any>()
  })

  test("say how long, why and where to", () => {
    expect(Directive.retryAfter).type.not.toBeCallableWith()
    expect(Directive.retryAfter).type.not.toBeCallableWith("soon")
    expect(Directive.skip).type.not.toBeCallableWith()
    expect(Directive.deadLetter).type.not.toBeCallableWith("topic")
  })

  test("leave merged handlers the errors and needs of each", () => {
    const shipOrder = Topic.handler(Orders, (order) => Effect.flatMap(Shipping, (shipping) => shipping.ship(order)))
    const merged = Handler.merge(shipOrder, audit)
    expect(merged).type.toBe<Handler<ShipError | DecodeError, Shipping | KafkaProducer>>()
    expect(merged.pipe(Handler.timeout("30 seconds"))).type.toBe<
      Handler<ShipError | DecodeError | HandlerTimeout, Shipping | KafkaProducer>
    >()
    expect(Handler.merge).type.not.toBeCallableWith()
    expect(Handler.merge).type.not.toBeCallableWith(() => Effect.void)
    layerHandler(merged.pipe(Handler.timeout("30 seconds")), {
      groupId: "mirror",
      onFailure: FailurePolicy.make(({ error }) =>
        error._tag === "Some" && error.value._tag === "DecodeError"
          ? { _tag: "DeadLetter", topic: "mirror.dead" }
          : { _tag: "Retry", after: "5 seconds" }
      )
    })
  })
})
