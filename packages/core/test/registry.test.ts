import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { ConcurrentConsumer } from "../src/ConcurrentConsumer.ts"
import { ConsumerRegistry, makeRegistry, type Registry } from "../src/ConsumerRegistry.ts"
import { FailurePolicy } from "../src/FailurePolicy.ts"
import { Handler } from "../src/Handler.ts"
import { KafkaClient } from "../src/KafkaClient.ts"
import { Boom, Desk, turns, world } from "./harness.ts"

type World = Effect.Success<ReturnType<typeof world>>

const consumer = (w: World, registry: Registry, groupId: string, name?: string) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
    const built = yield* Effect.exit(
      Layer.buildWithScope(
        ConcurrentConsumer.layer({ groupId, topics: ["t"], name }).pipe(
          Layer.provide(Layer.succeed(KafkaClient, w.kafka.client()))
        ),
        scope
      ).pipe(Effect.provideService(ConsumerRegistry, registry))
    )
    return { built, close: Scope.close(scope, Exit.void) }
  })

const names = (registry: Registry) => Effect.map(registry.consumers, (all) => all.map((one) => one.name))

describe("ConsumerRegistry", () => {
  it.effect(
    "D34: consumers of one group are called after it, then #2, #3; a name is free again when its layer has closed",
    () =>
      Effect.gen(function* () {
        const w = yield* world()
        const registry = makeRegistry()
        yield* consumer(w, registry, "g")
        const second = yield* consumer(w, registry, "g")
        yield* consumer(w, registry, "g")
        yield* consumer(w, registry, "h")
        assert.deepStrictEqual(yield* names(registry), ["g", "g#2", "g#3", "h"])
        yield* second.close
        assert.deepStrictEqual(yield* names(registry), ["g", "g#3", "h"])
        yield* consumer(w, registry, "g")
        assert.deepStrictEqual(yield* names(registry), ["g", "g#3", "h", "g#2"])
      })
  )

  it.effect("D34: a name that is taken is a typed error", () =>
    Effect.gen(function* () {
      const w = yield* world()
      const registry = makeRegistry()
      yield* consumer(w, registry, "g", "shipping")
      const { built } = yield* consumer(w, registry, "h", "shipping")
      assert.isTrue(Exit.isFailure(built))
      const error = Cause.squash((built as Exit.Failure<unknown, unknown>).cause) as {
        _tag: string
        option: string
        value: unknown
        message: string
      }
      assert.deepInclude(error, { _tag: "InvalidOptions", option: "name", value: "shipping" })
      assert.include(error.message, "no other consumer")
      assert.deepStrictEqual(yield* names(registry), ["shipping"])
    })
  )

  it.effect("a child sees its own, its parent sees them too, and names are unique over both", () =>
    Effect.gen(function* () {
      const w = yield* world()
      const parent = makeRegistry()
      yield* consumer(w, parent, "g")
      const child = makeRegistry(parent)
      yield* consumer(w, child, "g")
      const other = makeRegistry(parent)
      yield* consumer(w, other, "g")
      assert.deepStrictEqual(yield* names(parent), ["g", "g#2", "g#3"])
      assert.deepStrictEqual(yield* names(child), ["g#2"])
      assert.deepStrictEqual(yield* names(other), ["g#3"])
      const { built } = yield* consumer(w, child, "h", "g")
      assert.isTrue(Exit.isFailure(built))
      assert.deepStrictEqual(yield* names(child), ["g#2"])
    })
  )

  it.effect("the default is one for the process", () =>
    Effect.gen(function* () {
      const registry = yield* ConsumerRegistry
      const w = yield* world()
      yield* consumer(w, registry, "a-group-of-this-test")
      const again = yield* ConsumerRegistry
      assert.include(yield* names(again), "a-group-of-this-test")
    })
  )

  it.effect(
    "failure ends with the first failure of any consumer, unless its onEnd is report; who went away before does not count",
    () =>
      Effect.gen(function* () {
        const w = yield* world()
        yield* w.produce(3)
        const registry = makeRegistry()
        const build = (groupId: string, desk: Desk, onEnd?: "fail" | "report") =>
          Effect.gen(function* () {
            const scope = yield* Scope.make()
            yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
            yield* Layer.buildWithScope(
              ConcurrentConsumer.layerHandler(Handler.make("t", desk.handle), {
                groupId,
                onFailure: FailurePolicy.stop,
                onEnd
              }).pipe(Layer.provide(Layer.succeed(KafkaClient, w.kafka.client()))),
              scope
            ).pipe(Effect.provideService(ConsumerRegistry, registry))
            yield* turns
            return Scope.close(scope, Exit.void)
          })
        const desks = [new Desk(), new Desk(), new Desk()]
        const closeFirst = yield* build("a", desks[0]!)
        yield* build("b", desks[1]!, "report")
        yield* build("c", desks[2]!)
        const failure = yield* Effect.forkChild(Effect.exit(registry.failure))
        yield* closeFirst
        yield* desks[1]!.end(0, 0, Exit.fail(new Boom()))
        yield* turns
        assert.isUndefined(failure.pollUnsafe())
        yield* desks[2]!.end(0, 0, Exit.fail(new Boom()))
        const exit = failure.pollUnsafe()
        assert.isDefined(exit)
        const ended = (exit as Exit.Success<Exit.Exit<never, { readonly reason: { readonly _tag: string } }>>).value
        assert.isTrue(Exit.isFailure(ended))
      })
  )
})
