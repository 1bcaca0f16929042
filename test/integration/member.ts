/**
 * A process that is a member of a group: `member.ts <options as JSON>`. It ends by SIGTERM, which interrupts its main fiber.
 *
 * Everything that happens is one line of JSON in `file`, written at once: what a killed process has done is not lost.
 * What a record's handler does is said by the record's value: `quick` nothing, `hung` it never ends and cannot be interrupted,
 * `<n>` it sleeps for so many milliseconds, `until <n>` nothing in the turn n and later ones and before that it never ends, everything
 * else: between `sleep[0]` and `sleep[1]` milliseconds.
 */
import { ConcurrentConsumer, ConsumerRegistry, Handler } from "@concurrent-kafka/core"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { NodeRuntime } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { openSync, writeSync } from "node:fs"
import type { Event, MemberOptions } from "./members.ts"

const options = JSON.parse(process.argv[2] ?? "{}") as MemberOptions

const file = openSync(options.file, "a")
const say = (event: Event): void => {
  writeSync(file, `${JSON.stringify(event)}\n`)
}

const work = (value: Uint8Array | null): Effect.Effect<void> => {
  const text =
    value === null ? "" : Buffer.from(value.buffer, value.byteOffset, Math.min(8, value.byteLength)).toString()
  if (text === "quick") return Effect.void
  if (text === "hung") return Effect.uninterruptible(Effect.never)
  if (text.startsWith("until ")) return (options.turn ?? 0) < Number(text.slice(6)) ? Effect.never : Effect.void
  const [least, most] = options.sleep
  return Effect.sleep(/^\d+$/.test(text) ? Number(text) : least + Math.random() * (most - least))
}

const handler = Handler.make(
  options.topic,
  Effect.fnUntraced(function* (record) {
    const at = { pid: process.pid, partition: record.partition, offset: String(record.offset), epoch: record.epoch }
    if (options.starts) say({ event: "started", ...at })
    yield* Effect.onExit(work(record.value), (exit) =>
      Effect.sync(() => {
        if (options.starts) say({ event: "finalized", ...at })
        if (exit._tag === "Failure") say({ event: "interrupted", ...at })
      })
    )
    say({ event: "handled", ...at })
  })
)

const Consumer = ConcurrentConsumer.layerHandler(handler, {
  groupId: options.groupId,
  concurrency: options.concurrency,
  shutdown: options.shutdown,
  ...options.consumer
})

/** Rebalances and the newest figures, as they come. */
const Reporter = Layer.effectDiscard(
  Effect.forkScoped(
    Effect.gen(function* () {
      const registry = yield* ConsumerRegistry
      let told = 0
      while (true) {
        for (const consumer of yield* registry.consumers) {
          const { commits, health, interrupted, rebalances, released, unexpectedTransitions } = yield* consumer.snapshot
          for (; told < rebalances.length; told++) say({ event: "rebalance", ...rebalances[told]! })
          say({
            event: "state",
            codes: health.reasons.map(({ code }) => code),
            commits: commits.ok,
            interrupted,
            released,
            unexpected: unexpectedTransitions
          })
        }
        yield* Effect.sleep("100 millis")
      }
    })
  )
)

NodeRuntime.runMain(
  ConcurrentConsumer.launch(
    Layer.mergeAll(Consumer, Reporter).pipe(Layer.provide(KafkaJs.layer({ brokers: options.brokers })))
  )
)
