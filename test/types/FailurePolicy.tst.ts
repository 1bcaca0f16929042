// oxlint-disable typescript/unbound-method -- only their types are looked at
import {
  ConcurrentConsumer,
  type Decision,
  type Failure,
  FailurePolicy,
  type FailureStep,
  Handler,
  type KafkaClient,
  type KafkaClientError,
  type InvalidOptions,
  type KafkaProducer
} from "@concurrent-kafka/core"
import { Context, Data, Effect, type Layer, Schedule } from "effect"
import { describe, expect, test } from "tstyche"

class ShipError extends Data.TaggedError("ShipError")<{ readonly retryable: boolean }> {}
class OtherError extends Data.TaggedError("OtherError")<{ readonly why: string }> {}
class Db extends Context.Service<Db, { readonly limit: Effect.Effect<number> }>()("Db") {}
class Shipping extends Context.Service<Shipping, { readonly ship: Effect.Effect<void, ShipError> }>()("Shipping") {}

const { deadLetter, make, orDeadLetter, orElse, orPark, orSkip, orStop, park, retry, skip, stop } = FailurePolicy
const { layerHandler } = ConcurrentConsumer
const groupId = "g"
const ship = Handler.make("orders", () => Effect.flatMap(Shipping, (shipping) => shipping.ship))
const failing = Handler.make("orders", () => Effect.fail(new ShipError({ retryable: true })))
const schedule = Schedule.exponential("200 millis").pipe(Schedule.upTo({ times: 5 }))

type NeedsOf<L> = L extends Layer.Layer<never, InvalidOptions | KafkaClientError, infer R> ? R : "another layer"

describe("a step", () => {
  test("is no policy: the message names what is missing", () => {
    expect(retry(Schedule.recurs(3))).type.toBe<FailureStep<unknown, never>>()
    expect(park({ atMost: 10 })).type.toBe<FailureStep<unknown, never>>()
    expect(layerHandler).type.not.toBeCallableWith(failing, { groupId, onFailure: retry(Schedule.recurs(3)) })
    // @ts-expect-error Property 'decide' is missing in type 'FailureStep<unknown, never>' but required in type 'FailurePolicy
    layerHandler(failing, { groupId, onFailure: retry(Schedule.recurs(3)) })
    expect(layerHandler).type.not.toBeCallableWith(failing, { groupId, onFailure: park({ atMost: 10 }) })
    // @ts-expect-error Property 'decide' is missing in type 'FailureStep<unknown, never>' but required in type 'FailurePolicy
    layerHandler(failing, { groupId, onFailure: park({ atMost: 10 }) })
    // nor where no policy is asked for
    const sure = Handler.make("orders", () => Effect.void)
    expect(layerHandler).type.not.toBeCallableWith(sure, { groupId, onFailure: retry(schedule) })
    expect(layerHandler).type.not.toBeCallableWith(sure, { groupId, onFailure: park() })
    expect(layerHandler).type.not.toBeCallableWith(failing, { groupId, onFailure: retry(schedule).pipe(orPark()) })
  })

  test("is closed by what comes after it", () => {
    expect(retry(schedule).pipe(orSkip)).type.toBe<FailurePolicy<unknown, never>>()
    expect(retry(schedule).pipe(orStop)).type.toBe<FailurePolicy<unknown, never>>()
    expect(retry(schedule).pipe(orDeadLetter("d"))).type.toBe<FailurePolicy<unknown, KafkaProducer>>()
    expect(retry(schedule).pipe(orPark({ atMost: 100 }), orStop)).type.toBe<FailurePolicy<unknown, never>>()
    expect(park().pipe(orDeadLetter("d", { refused: "skip" }))).type.toBe<FailurePolicy<unknown, KafkaProducer>>()
    // by a policy, not by another step
    expect(orElse).type.not.toBeCallableWith(retry(schedule))
    expect(orElse).type.not.toBeCallableWith(park())
    expect(retry(schedule).pipe(orPark(), orPark())).type.toBe<FailureStep<unknown, never>>()
    // a policy is closed already
    expect(orSkip).type.not.toBeCallableWith(skip)
    expect(orElse(skip)).type.not.toBeCallableWith(stop)
  })

  test("takes a schedule of its failures, which may need services and not fail", () => {
    const transient = Schedule.spaced("1 second").pipe(
      Schedule.setInputType<Failure<ShipError>>(),
      Schedule.while(({ input }) => input.error._tag === "Some" && input.error.value.retryable)
    )
    expect(retry(transient)).type.toBe<FailureStep<ShipError, never>>()
    expect(layerHandler).type.toBeCallableWith(failing, { groupId, onFailure: retry(transient).pipe(orSkip) })
    const other = Handler.make("orders", () => Effect.fail(new OtherError({ why: "" })))
    expect(layerHandler).type.not.toBeCallableWith(other, { groupId, onFailure: retry(transient).pipe(orSkip) })
    const limited = Schedule.spaced("1 second").pipe(Schedule.tap(() => Db))
    expect(retry(limited)).type.toBe<FailureStep<unknown, Db>>()
    expect(retry(limited).pipe(orDeadLetter("d"))).type.toBe<FailurePolicy<unknown, Db | KafkaProducer>>()
    expect(retry).type.not.toBeCallableWith(Schedule.spaced("1 second").pipe(Schedule.tap(() => Effect.fail("no"))))
  })

  test("and the policy after it must both take the error", () => {
    const after = make((_: Failure<ShipError>) => ({ _tag: "Skip" }))
    expect(retry(schedule).pipe(orElse(after))).type.toBe<FailurePolicy<ShipError, never>>()
    const needing = make((_: Failure<ShipError>) => Effect.as(Db, { _tag: "DeadLetter", topic: "d" } as const))
    expect(park().pipe(orElse(needing))).type.toBe<FailurePolicy<ShipError, Db | KafkaProducer>>()
  })
})

describe("a function as a policy", () => {
  test("answers with what there is", () => {
    expect(make).type.toBeCallableWith(() => ({ _tag: "Retry", after: "5 seconds" }))
    expect(make).type.toBeCallableWith(() => ({ _tag: "DeadLetter", topic: "d", reason: "for good" }))
    expect(make).type.not.toBeCallableWith(() => ({ _tag: "Retry" }))
    expect(make).type.not.toBeCallableWith(() => ({ _tag: "DeadLetter" }))
    expect(make).type.not.toBeCallableWith(() => ({ _tag: "Retry", after: true }))
  })

  test("says with a Park what comes after it, and that is no Park", () => {
    expect(make).type.not.toBeCallableWith(() => ({ _tag: "Park" }))
    // @ts-expect-error Property 'then' is missing in type '{ readonly _tag: "Park"; }' but required in type 'Park'
    layerHandler(failing, { groupId, onFailure: make(() => ({ _tag: "Park" })) })
    expect(make).type.toBeCallableWith(() => ({ _tag: "Park", limits: { atMost: 5 }, then: { _tag: "Skip" } }))
    expect(make).type.not.toBeCallableWith(() => ({ _tag: "Park", then: { _tag: "Park", then: { _tag: "Skip" } } }))
    expect(make).type.not.toBeCallableWith(() => ({
      _tag: "DeadLetter",
      topic: "d",
      then: { _tag: "DeadLetter", topic: "e" }
    }))
  })

  test("is for the error that it takes", () => {
    const other = make((_: Failure<OtherError>) => ({ _tag: "Skip" }))
    expect(layerHandler).type.not.toBeCallableWith(failing, { groupId, onFailure: other })
    // @ts-expect-error Property 'why' is missing in type 'ShipError' but required in type 'OtherError'
    layerHandler(failing, { groupId, onFailure: other })
  })

  test("may answer with a decision here and with an effect there", () => {
    const mixed = make(({ attempt }: Failure<ShipError>) =>
      attempt > 3
        ? { _tag: "Skip" }
        : Effect.map(
            Effect.flatMap(Db, (db) => db.limit),
            (limit): Decision.Retry | Decision.Stop => (limit > 0 ? { _tag: "Retry", after: limit } : { _tag: "Stop" })
          )
    )
    expect(mixed).type.toBe<FailurePolicy<ShipError, Db>>()
  })

  test("may answer with any decision, and then needs a producer", () => {
    expect(make((_: Failure<ShipError>): Decision => ({ _tag: "Skip" }))).type.toBe<
      FailurePolicy<ShipError, KafkaProducer>
    >()
  })
})

describe("what a consumer needs", () => {
  test("is a producer exactly when a dead letter is among the decisions", () => {
    const shipping = layerHandler(ship, {
      groupId,
      ordering: "partition",
      onFailure: retry(schedule).pipe(orDeadLetter("d"))
    })
    expect<NeedsOf<typeof shipping>>().type.toBe<KafkaClient | KafkaProducer | Shipping>()
    const byHand = layerHandler(ship, {
      groupId,
      onFailure: make(({ attempt }) =>
        attempt > 3 ? { _tag: "DeadLetter", topic: "d" } : { _tag: "Retry", after: 1000 }
      )
    })
    expect<NeedsOf<typeof byHand>>().type.toBe<KafkaClient | KafkaProducer | Shipping>()
    const skips = layerHandler(ship, {
      groupId,
      onFailure: make(({ attempt }) => (attempt > 3 ? { _tag: "Skip" } : { _tag: "Retry", after: 1000 }))
    })
    expect<NeedsOf<typeof skips>>().type.toBe<KafkaClient | Shipping>()
    const parks = layerHandler(ship, {
      groupId,
      onFailure: make(() => ({ _tag: "Park", then: { _tag: "DeadLetter", topic: "d" } }))
    })
    expect<NeedsOf<typeof parks>>().type.toBe<KafkaClient | KafkaProducer | Shipping>()
    const parksOnly = layerHandler(ship, { groupId, onFailure: make(() => ({ _tag: "Park", then: { _tag: "Stop" } })) })
    expect<NeedsOf<typeof parksOnly>>().type.toBe<KafkaClient | Shipping>()
    const stops = layerHandler(ship, { groupId, onFailure: park({ atMost: 100 }).pipe(orStop) })
    expect<NeedsOf<typeof stops>>().type.toBe<KafkaClient | Shipping>()
    const dead = layerHandler(ship, { groupId, onFailure: deadLetter("d") })
    expect<NeedsOf<typeof dead>>().type.toBe<KafkaClient | KafkaProducer | Shipping>()
  })

  test("a decision by itself says it too", () => {
    expect<Decision.Services<Decision.Retry | Decision.Skip | Decision.Stop>>().type.toBe<never>()
    expect<Decision.Services<Decision.DeadLetter>>().type.toBe<KafkaProducer>()
    expect<Decision.Services<Decision.Park>>().type.toBe<KafkaProducer>()
    expect<Decision.Services<Decision>>().type.toBe<KafkaProducer>()
  })
})
