/** A process whose handler blocks the event loop for as long as it is told: `blocked.ts <milliseconds> <session timeout> [<protocol>]` */
import { ConcurrentConsumer } from "@concurrent-kafka/core/ConcurrentConsumer"
import { Handler } from "@concurrent-kafka/core/Handler"
import { MemoryKafka } from "@concurrent-kafka/testing"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { writeSync } from "node:fs"
import { Observability } from "../src/index.ts"

const [millis = 0, sessionTimeout = 0] = process.argv.slice(2, 4).map(Number)
const groupProtocol = process.argv[4] === "consumer" ? "consumer" : "classic"

const program = Effect.gen(function* () {
  const kafka = yield* MemoryKafka
  yield* kafka.createTopic("orders")
  const done = yield* Deferred.make<void>()
  const handler = Handler.make("orders", () =>
    Effect.andThen(
      Effect.sync(() => {
        const until = performance.now() + millis
        writeSync(2, "blocks\n")
        while (performance.now() < until);
        writeSync(2, "turns\n")
      }),
      Deferred.succeed(done, undefined)
    )
  )
  const heartbeatInterval = sessionTimeout / 10
  const options = { groupId: "g", name: "shipping", sessionTimeout, heartbeatInterval, groupProtocol } as const
  yield* Layer.build(ConcurrentConsumer.layerHandler(handler, options))
  // the thread has to be there
  yield* Effect.sleep(500)
  yield* kafka.produce("orders", [{ value: "order 1" }])
  yield* Deferred.await(done)
})

await Effect.runPromise(
  program.pipe(Effect.scoped, Effect.provide([MemoryKafka.layer(), Observability.layerLoopDelay]))
)
writeSync(2, "over\n")
