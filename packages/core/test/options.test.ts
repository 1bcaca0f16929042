import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { ConcurrentConsumer, type GroupOptions } from "../src/ConcurrentConsumer.ts"
import { ConsumerRegistry, makeRegistry } from "../src/ConsumerRegistry.ts"
import { Handler } from "../src/Handler.ts"
import { InvalidOptions } from "../src/InvalidOptions.ts"
import { KafkaClient } from "../src/KafkaClient.ts"
import { world } from "./harness.ts"

type Client = KafkaClient["Service"]

const build = (options: object, around: (client: Client) => Client = (client) => client) =>
  Effect.gen(function* () {
    const w = yield* world()
    return yield* Effect.exit(
      Effect.scoped(
        Layer.build(
          Layer.provide(
            ConcurrentConsumer.layer({ groupId: "g", topics: ["t"], ...options } as GroupOptions & {
              readonly topics: ReadonlyArray<string>
            }),
            Layer.succeed(KafkaClient, around(w.kafka.client()))
          )
        )
      ).pipe(Effect.provideService(ConsumerRegistry, makeRegistry()))
    )
  })

const wrong: ReadonlyArray<readonly [option: string, options: object, accepted: string]> = [
  ["groupId", { groupId: "" }, "not empty"],
  ["groupId", { groupId: 5 }, "not empty"],
  ["topics", { topics: [] }, "at least one"],
  ["topics", { topics: ["a b"] }, "topic names"],
  ["topics", { topics: ["."] }, "topic names"],
  ["topics", { topics: ["x".repeat(250)] }, "topic names"],
  ["name", { name: "" }, "not empty"],
  ["concurrency", { concurrency: 0 }, "at least 1"],
  ["concurrency", { concurrency: 1.5 }, "at least 1"],
  ["concurrency", { concurrency: "lots" }, "unbounded"],
  ["ordering", { ordering: "keys" }, '"unordered", "key", "partition", or a function'],
  ["startFrom", { startFrom: "middle" }, '"earliest" or "latest" or "fail"'],
  ["onOutOfRange", { onOutOfRange: "none" }, '"earliest" or "latest" or "fail"'],
  ["maxUncommitted", { maxUncommitted: 0 }, "at least 1"],
  ["maxHeldRecords", { maxHeldRecords: -1 }, "at least 1"],
  ["maxHeldBytes", { maxHeldBytes: Number.NaN }, "at least 1"],
  ["shutdown", { shutdown: "kill" }, '"interrupt" or "drain"'],
  ["shutdownTimeout", { shutdownTimeout: "soon" }, "duration"],
  ["shutdownTimeout", { shutdownTimeout: "3 seconds" }, "more than interruptGrace + flushReserve (3000 ms)"],
  ["flushReserve", { flushReserve: "-1 seconds" }, "at least 0 ms"],
  ["revokeDrain", { revokeDrain: Number.POSITIVE_INFINITY }, "finite"],
  ["interruptGrace", { interruptGrace: -1 }, "at least 0 ms"],
  ["stuckAfter", { stuckAfter: 0 }, "at least 1 ms"],
  ["batchSize", { batchSize: 0 }, "at least 1"],
  ["batchInterval", { batchInterval: 0 }, "at least 1 ms"],
  ["minCommitInterval", { minCommitInterval: -5 }, "at least 0 ms"],
  ["isolation", { isolation: "serializable" }, "read_committed"],
  ["sessionTimeout", { sessionTimeout: 0 }, "at least 1 ms"],
  ["heartbeatInterval", { heartbeatInterval: "11 seconds" }, "a third of sessionTimeout (30000 ms)"],
  ["rebalanceTimeout", { rebalanceTimeout: "never" }, "duration"],
  ["revokeTimeout", { revokeTimeout: "60 seconds" }, "less than rebalanceTimeout (60000 ms)"],
  ["revokeTimeout", { revokeTimeout: "8 seconds" }, "more than revokeDrain + interruptGrace + flushReserve (8000 ms)"],
  ["revokeTimeout", { revokeDrain: "7 seconds" }, "more than revokeDrain"],
  ["metadataMaxAge", { metadataMaxAge: 0 }, "at least 1 ms"],
  ["maxWait", { maxWait: 0 }, "at least 1 ms"],
  ["topicTimeout", { topicTimeout: -1 }, "at least 0 ms"],
  ["instanceId", { instanceId: "" }, "a name of 1 to 249 characters"],
  ["instanceId", { instanceId: "pod/1" }, "a name of 1 to 249 characters"],
  ["groupProtocol", { groupProtocol: "KIP-848" }, '"classic" or "consumer"'],
  ["assignor", { assignor: "range" }, '"sticky" or "cooperative-sticky"'],
  ["assignor", { assignor: "sticky", groupProtocol: "consumer" }, "there the broker assigns"],
  ["assignor", { assignor: "cooperative-sticky", groupProtocol: "consumer" }, "there the broker assigns"],
  ["headerFilter.header", { headerFilter: { header: "", equals: "x" } }, "not empty"],
  ["headerFilter.equals", { headerFilter: { header: "h", equals: "" } }, "not empty"],
  ["health.readyNeeds", { health: { readyNeeds: ["sick"] } }, "stuck"],
  ["health.liveNeeds", { health: { liveNeeds: ["sick"] } }, "stuck"],
  ["revealRecords", { revealRecords: "yes" }, "true or false"]
]

describe("options", () => {
  for (const [option, options, accepted] of wrong) {
    it.effect(
      `${JSON.stringify(options)} is refused when the layer is built, naming option, value and what is accepted`,
      () =>
        Effect.gen(function* () {
          const exit = yield* build(options)
          assert.isTrue(Exit.isFailure(exit))
          const error = Cause.squash((exit as Exit.Failure<unknown, unknown>).cause)
          assert.instanceOf(error, InvalidOptions)
          assert.strictEqual((error as InvalidOptions).option, option)
          assert.include((error as InvalidOptions).accepted, accepted)
          assert.include((error as InvalidOptions).message, `option ${option}: `)
        })
    )
  }

  it.effect("D31: a regular expression is no topic: a type error, and refused where types do not reach", () =>
    Effect.gen(function* () {
      const exit = yield* build({ topics: [/orders-.*/] })
      const error = Cause.squash((exit as Exit.Failure<unknown, unknown>).cause) as InvalidOptions
      assert.strictEqual(error.option, "topics")
      assert.include(error.message, "the given object")
      assert.throws(() => Handler.make([/x/] as never, () => Effect.void), /topic names/)
    })
  )

  it.effect("everything else is accepted: defaults, and values at their limits", () =>
    Effect.gen(function* () {
      for (const options of [
        {},
        { topics: ["a", "a", "b"] },
        {
          name: "n",
          concurrency: 1,
          ordering: "partition",
          startFrom: "fail",
          onOutOfRange: "fail",
          maxUncommitted: 1,
          maxHeldRecords: 1,
          maxHeldBytes: 1,
          shutdown: "drain",
          shutdownTimeout: 3_001,
          flushReserve: "2 seconds",
          revokeDrain: 0,
          interruptGrace: "1 second",
          stuckAfter: 1,
          batchSize: 1,
          batchInterval: 1,
          minCommitInterval: 0,
          isolation: "read_uncommitted",
          sessionTimeout: 9_000,
          heartbeatInterval: 3_000,
          rebalanceTimeout: "2 minutes",
          revokeTimeout: "1 minute",
          metadataMaxAge: 1,
          maxWait: 1,
          topicTimeout: 0,
          instanceId: undefined,
          groupProtocol: "consumer",
          headerFilter: () => true,
          health: { readyNeeds: ["stuck"], liveNeeds: [] }
        },
        { assignor: "sticky" },
        { assignor: "cooperative-sticky", groupProtocol: "classic" },
        { concurrency: "unbounded", headerFilter: { header: "h", equals: "v" } }
      ]) {
        const exit = yield* build(options)
        assert.isTrue(Exit.isSuccess(exit), String(Exit.isFailure(exit) && Cause.squash(exit.cause)))
      }
    })
  )

  it.effect("D45: members are static members with names of their own, and the first keeps the one that was given", () =>
    Effect.gen(function* () {
      const names: Array<string | undefined> = []
      const listening = (client: Client): Client => ({
        ...client,
        openSession: ({ instanceId, ...settings }) => {
          names.push(instanceId)
          return client.openSession(settings)
        }
      })
      for (const members of [1, 3]) yield* build({ instanceId: "pod-0", members }, listening)
      assert.deepStrictEqual(names, ["pod-0", "pod-0", "pod-0-2", "pod-0-3"])
    })
  )

  it("what is thrown where a handler is made says what is wrong", () => {
    assert.throws(() => Handler.make("not a topic", () => Effect.void), /option topics: "not a topic"/)
    assert.throws(() => Handler.make([] as never, () => Effect.void), /at least one/)
    assert.throws(() => Handler.make("t", () => Effect.void).pipe(Handler.timeout(0)), /option timeout/)
    assert.throws(() => Handler.timeout("long ago" as never), /option timeout/)
    assert.strictEqual(Handler.make("t", () => Effect.void).timeoutMillis("t"), undefined)
  })
})
