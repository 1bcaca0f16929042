import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import { BatchCommitter } from "../src/BatchCommitter.ts"
import { ConcurrentConsumer } from "../src/ConcurrentConsumer.ts"
import { ConsumerRegistry, makeRegistry } from "../src/ConsumerRegistry.ts"
import { ConsumerSession } from "../src/ConsumerSession.ts"
import { FailurePolicy } from "../src/FailurePolicy.ts"
import { Handler } from "../src/Handler.ts"
import { KafkaClient } from "../src/KafkaClient.ts"
import { Desk, logged, pass, turns, world } from "./harness.ts"

type World = Effect.Success<ReturnType<typeof world>>

const built = <A, E>(w: World, layer: Layer.Layer<A, E, KafkaClient>, registry = makeRegistry()) =>
  Effect.gen(function* () {
    const scope = yield* Scope.fork(yield* Effect.scope)
    const context = yield* Layer.buildWithScope(
      Layer.provide(layer, Layer.succeed(KafkaClient, w.kafka.client())),
      scope
    ).pipe(Effect.provideService(ConsumerRegistry, registry))
    yield* turns
    return { context, close: Scope.close(scope, Exit.void) }
  })

const failureOf = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) =>
  Effect.map(Effect.exit(effect), (exit) => {
    assert.isTrue(Exit.isFailure(exit))
    return Cause.squash((exit as Exit.Failure<A, E>).cause) as {
      readonly _tag: string
      readonly option: string
      readonly message: string
    }
  })

class Shipping extends ConcurrentConsumer.Tag<Shipping>()("test/Shipping") {}
class Billing extends ConcurrentConsumer.Tag<Billing>()("test/Billing") {}

const group = (groupId: string) => ({ groupId, topics: ["t"] })

describe("layers", () => {
  it.effect("building a layer connects and does not join: a consumer that nobody runs holds no partitions", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* built(w, ConcurrentConsumer.layer(group("g")))
      yield* pass(60_000)
      assert.deepStrictEqual(w.kafka.groupUnsafe("g").members, [])
      assert.strictEqual(w.kafka.sessionsUnsafe().length, 1)
    })
  )

  it.effect("one session runs one consumer: a second one on it fails to build, after the first has closed it may", () =>
    Effect.gen(function* () {
      const w = yield* world()
      const session = yield* built(
        w,
        BatchCommitter.layer().pipe(Layer.provideMerge(ConsumerSession.layer(group("g"))))
      )
      const given = Layer.succeedContext(session.context)
      const noDeps = (name: string) => Layer.provide(ConcurrentConsumer.layerNoDeps({ name }), given)
      const first = yield* built(w, noDeps("one"))
      assert.deepInclude(yield* failureOf(built(w, noDeps("two"))), {
        _tag: "InvalidOptions",
        option: "ConsumerSession"
      })
      yield* first.close
      yield* built(w, noDeps("two"))
    })
  )

  it.effect(
    "layers of two groups under one tag: both are built, the later one is found, neither holds partitions before run",
    () =>
      Effect.gen(function* () {
        const w = yield* world()
        const registry = makeRegistry()
        const both = Layer.mergeAll(ConcurrentConsumer.layer(group("a")), ConcurrentConsumer.layer(group("b")))
        const { context } = yield* built(w, both, registry)
        assert.strictEqual((yield* registry.consumers).length, 2)
        assert.strictEqual(Context.get(context, ConcurrentConsumer).name, "b")
      })
  )

  it.effect("the same layer value merged twice is built once", () =>
    Effect.gen(function* () {
      const w = yield* world()
      const registry = makeRegistry()
      const one = ConcurrentConsumer.layer(group("a"))
      yield* built(w, Layer.mergeAll(one, one), registry)
      assert.strictEqual((yield* registry.consumers).length, 1)
    })
  )

  it.effect("Tag: several consumers of an app as services of their own, with and without their handler", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.produce(3)
      const desk = w.watch(new Desk(), "billing")
      const { close, context } = yield* built(
        w,
        Layer.mergeAll(
          Shipping.layer(group("shipping")),
          Billing.layerHandler(Handler.make("t", desk.handle), { groupId: "billing", onFailure: FailurePolicy.stop })
        )
      )
      assert.strictEqual(Context.get(context, Shipping).name, "shipping")
      const billing = Context.get(context, Billing)
      assert.strictEqual(billing.name, "billing")
      assert.deepStrictEqual(desk.running, ["0:0", "0:1", "0:2"])
      yield* desk.finish(0, 0)
      assert.strictEqual((yield* billing.snapshot).outcomes.handled, 1)
      yield* close
      assert.strictEqual(Number(w.kafka.committedUnsafe("billing", "t", 0)!.offset), 1)
    })
  )

  it.effect("layerHandlerConfig: each option a value or a Config; a concurrency of 0 means unbounded", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.produce(30)
      const registry = makeRegistry()
      const desk = w.watch(new Desk(), "from-env")
      const layer = (env: Record<string, string>) =>
        ConcurrentConsumer.layerHandlerConfig(Handler.make("t", desk.handle), {
          groupId: Config.NonEmptyString("GROUP"),
          concurrency: Config.Int("CONCURRENCY"),
          batchSize: Config.Int("BATCH").pipe(Config.withDefault(7)),
          shutdown: "interrupt",
          onFailure: FailurePolicy.stop
        }).pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord(env))))
      const { close } = yield* built(w, layer({ GROUP: "from-env", CONCURRENCY: "0" }), registry)
      assert.strictEqual(desk.running.length, 30)
      const [consumer] = yield* registry.consumers
      assert.strictEqual((yield* consumer!.snapshot).permits.limit, "unbounded")
      yield* close
      assert.include(String((yield* failureOf(built(w, layer({ GROUP: "g" })))).message ?? ""), "CONCURRENCY")
      assert.deepInclude(yield* failureOf(built(w, layer({ GROUP: "g", CONCURRENCY: "-4" }))), {
        option: "concurrency"
      })
    })
  )

  it.effect(
    "one client shared by three consumers is closed last, and only the consumers' sessions were opened on it",
    () =>
      Effect.gen(function* () {
        const w = yield* world()
        yield* w.produce(1)
        const order: Array<string> = []
        const client = Layer.effect(
          KafkaClient,
          Effect.acquireRelease(Effect.succeed(w.kafka.client()), () =>
            Effect.sync(() => {
              const open = w.kafka.sessionsUnsafe().filter((session) => session.isOpenUnsafe()).length
              order.push(`client closed, ${open} sessions open`)
            })
          )
        )
        const handler = (groupId: string) =>
          ConcurrentConsumer.layerHandler(Handler.make("t", w.watch(new Desk({ auto: true }), groupId).handle), {
            groupId,
            onFailure: FailurePolicy.stop
          })
        const scope = yield* Scope.make()
        yield* Layer.buildWithScope(
          Layer.provide(Layer.mergeAll(handler("a"), handler("b"), handler("c")), client),
          scope
        ).pipe(Effect.provideService(ConsumerRegistry, makeRegistry()))
        yield* turns
        assert.strictEqual(w.kafka.sessionsUnsafe().length, 3)
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(order, ["client closed, 0 sessions open"])
        for (const id of ["a", "b", "c"]) assert.strictEqual(Number(w.kafka.committedUnsafe(id, "t", 0)!.offset), 1)
      })
  )

  it.effect("a broker that is down when the layer is built is a failure of the layer", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.kafka.brokerDown
      const error = yield* failureOf(built(w, ConcurrentConsumer.layer(group("g"))))
      assert.strictEqual(error._tag, "KafkaClientError")
    })
  )

  it.effect("a handler layer logs why its consumer ended, without data of the record", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.produce(1)
      const registry = makeRegistry()
      const lines: Array<string> = []
      yield* built(
        w,
        ConcurrentConsumer.layerHandler(
          Handler.make("t", () => Effect.die(new Error("v0 is secret"))),
          { groupId: "g", onEnd: "report" }
        ),
        registry
      ).pipe(Effect.provideService(Logger.CurrentLoggers, logged(lines)))
      const [consumer] = yield* registry.consumers
      assert.isTrue(Exit.isFailure(yield* Effect.exit(consumer!.failure)))
      const ended = lines.filter((line) => line.includes("the consumer g has ended"))
      assert.lengthOf(ended, 1)
      assert.match(ended[0]!, /^Error .* t\/0 offset 0/)
      assert.isTrue(lines.every((line) => !line.includes("secret")))
    })
  )
})
