/** Consumers at work on a Kafka in memory, with a live page in front of them, for a browser to look at. */
import { ConcurrentConsumer, type ConcurrentConsumerShape } from "@concurrent-kafka/core/ConcurrentConsumer"
import { ConsumerRegistry, makeRegistry, type Registry } from "@concurrent-kafka/core/ConsumerRegistry"
import { FailurePolicy } from "@concurrent-kafka/core/FailurePolicy"
import { Handler } from "@concurrent-kafka/core/Handler"
import { LivePage, Observability } from "@concurrent-kafka/observability"
import { MemoryKafka, type Cluster } from "@concurrent-kafka/testing"
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import { NodeHttpServer } from "@effect/platform-node"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { createServer } from "node:http"

export class Refused extends Error {
  readonly _tag = "Refused"
}

export interface PageServer {
  readonly url: string
  readonly port: number
}

/** A server with nothing but the page (and what is given), on a port of its own or the one that is given. */
export const pageServer = (
  registry: Registry,
  options: LivePage.PageOptions = {},
  port = 0
): Effect.Effect<PageServer, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const server = HttpRouter.serve(LivePage.layer(options), { disableListenLog: true, disableLogger: true }).pipe(
      Layer.provideMerge(NodeHttpServer.layer(createServer, { port, host: "127.0.0.1" })),
      Layer.provide([Observability.layerLoopDelay, Layer.succeed(ConsumerRegistry, registry), quiet])
    )
    const built = yield* Effect.orDie(Layer.buildWithScope(server, scope))
    const { address } = Context.get(built, HttpServer.HttpServer)
    const url = HttpServer.formatAddress(address)
    return { url: `${url}${options.path ?? "/kafka"}/`, port: Number(new URL(url).port) }
  })

const quiet = Logger.layer([])

export interface ConsumerOptions {
  readonly group: string
  readonly topic: string
  readonly concurrency?: number
  readonly members?: number
  readonly ordering?: "unordered" | "key"
  readonly handle: (record: {
    readonly partition: number
    readonly offset: bigint
    readonly attempt: number
  }) => Effect.Effect<void, Refused>
  readonly policy?: "retry" | "park" | "letter"
}

const letters = FailurePolicy.deadLetter("orders.dead-letter")
const policies = {
  letter: letters,
  retry: FailurePolicy.retry(Schedule.spaced("4 seconds").pipe(Schedule.upTo({ times: 3 }))).pipe(
    FailurePolicy.orDeadLetter("orders.dead-letter")
  ),
  park: FailurePolicy.park({ atMostFor: "1 hour" }).pipe(FailurePolicy.orDeadLetter("orders.dead-letter"))
}

export interface Scene {
  readonly kafka: Cluster
  readonly registry: Registry
  readonly consume: (options: ConsumerOptions) => Effect.Effect<ConcurrentConsumerShape, never, Scope.Scope>
}

export const makeScene: Effect.Effect<Scene, never, Scope.Scope> = Effect.gen(function* () {
  const kafka = yield* MemoryKafka.make()
  const registry = makeRegistry()
  return {
    kafka,
    registry,
    consume: (options) =>
      Effect.gen(function* () {
        const scope = yield* Effect.scope
        const client = Layer.succeed(KafkaClient, kafka.client())
        const layer = ConcurrentConsumer.layerHandler(Handler.make(options.topic, options.handle), {
          groupId: options.group,
          concurrency: options.concurrency ?? 20,
          ordering: options.ordering ?? "unordered",
          onFailure: policies[options.policy ?? "letter"],
          shutdownTimeout: "4 seconds",
          flushReserve: "1 second",
          revokeDrain: "300 millis",
          interruptGrace: "200 millis",
          stuckAfter: "5 seconds",
          ...(options.members === undefined ? {} : { members: options.members })
        }).pipe(
          Layer.provide([
            client,
            Layer.provide(KafkaProducer.layer, client),
            Layer.succeed(ConsumerRegistry, registry),
            quiet
          ])
        )
        const name = registry.nameFor(options.group)
        yield* Effect.orDie(Layer.buildWithScope(layer, scope))
        const found = (yield* registry.consumers).find((consumer) => consumer.name === name)
        return found === undefined ? yield* Effect.die(`no consumer ${name}`) : found
      })
  }
})

/** So many records a second, spread over all partitions, for ever. */
export const producing = (
  kafka: Cluster,
  topic: string,
  partitions: number,
  perSecond: number
): Effect.Effect<never> => {
  let next = 0
  let owed = 0
  return Effect.forever(
    Effect.andThen(
      Effect.sync(() => {
        owed += perSecond / 20
        const count = Math.floor(owed)
        owed -= count
        kafka.produceUnsafe(
          topic,
          Array.from({ length: count }, () => ({
            key: `customer ${next % 97}`,
            value: "order",
            partition: (next++ * 7919) % partitions
          }))
        )
      }),
      Effect.sleep("50 millis")
    )
  )
}
