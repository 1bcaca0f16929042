/** An idempotent producer on connections of its own. */
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import type { Producer } from "@concurrent-kafka/core/KafkaProducer"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import type { Cluster } from "./cluster.ts"
import { publishError } from "./lane.ts"
import { Sender, type SenderSettings, type SenderWire } from "./sender.ts"

/** How long closing waits for what is under way. */
const closeTimeout = 5000

export interface ProducerSettings extends SenderSettings {
  /** milliseconds that the replicas of a batch may take */
  readonly requestTimeout: number
}

/** Java's `delivery.timeout.ms` is 120 s, its `request.timeout.ms` 30 s and its `metadata.max.age.ms` 5 min. */
export const producerSettings = (deliveryTimeout: number): ProducerSettings => ({
  deliveryTimeout,
  requestTimeout: Math.min(30_000, deliveryTimeout),
  topicTimeout: Math.min(5000, deliveryTimeout),
  metadataMaxAge: 300_000,
  // half of what a broker takes by default: little is split, and little is sent again
  maxBatch: 524_288,
  maxRequest: 4_194_304
})

export const clusterWire = (cluster: Cluster, requestTimeout: number): SenderWire => ({
  metadata: (topics) => cluster.refresh(topics),
  identify: async () => cluster.use(await cluster.any(), "get a producer id", (broker) => broker.initProducerId()),
  produce: async (node, batches) => {
    let sent = false
    try {
      const broker = await cluster.node(node, "produce")
      const { partitions } = await cluster.use(broker, "produce", (b) => {
        const answer = b.produce(batches, requestTimeout)
        // what is thrown before was said by nobody but us
        sent = true
        return answer
      })
      return { _tag: "Answer", partitions }
    } catch (error) {
      return { _tag: "NoAnswer", error: cluster.connector.classify(error, "produce"), sent }
    }
  }
})

/** The cluster is the producer's own, and closed with it. */
export const makeProducer = (
  openCluster: () => Cluster,
  settings: ProducerSettings
): Effect.Effect<Producer, KafkaClientError, Scope.Scope> =>
  Effect.gen(function* () {
    const cluster = yield* Effect.acquireRelease(
      Effect.try({ try: openCluster, catch: (error) => error as KafkaClientError }),
      (open) => Effect.sync(() => open.close())
    )
    return yield* producerOn(clusterWire(cluster, settings.requestTimeout), settings)
  })

export const producerOn = (wire: SenderWire, settings: SenderSettings): Effect.Effect<Producer, never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const run = yield* FiberSet.runtime(yield* FiberSet.make<void>())<never>()
    const sender: Sender = new Sender({
      wire,
      settings,
      clock,
      run: (effect) => void run(Effect.catchCause(effect, failed))
    })
    const failed = (cause: Cause.Cause<never>) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.void
        : Effect.andThen(
            Effect.sync(() => sender.recover(Cause.squash(cause))),
            Effect.logError("a defect in the producer", cause)
          )
    yield* Effect.addFinalizer(() => {
      sender.closed = true
      // in a fiber of its own: a bare interruptible wait in the finalizer of an interrupted fiber is cut at once
      return Effect.andThen(
        Effect.timeoutOption(Effect.interruptible(sender.idle), closeTimeout),
        Effect.sync(() => sender.close())
      )
    })
    return {
      send: (records) =>
        Effect.callback((resume) => {
          if (sender.closed) {
            return resume(Effect.fail(publishError("closed", { code: "CLOSED" }, "the producer was closed")))
          }
          if (records.length === 0) return resume(Effect.succeed(true))
          const takeBack = sender.send(records, (error) => {
            // Not at once: resuming runs who waits, and its next send would find the sender in the middle of something.
            queueMicrotask(() => resume(error === undefined ? Effect.succeed(true) : Effect.fail(error)))
          })
          return Effect.sync(takeBack)
        })
    }
  })
