/** The library at work: a handler, the layer that runs it, and what can be seen of the consumer meanwhile. */
import { ConcurrentConsumer, type ConcurrentConsumerShape } from "@concurrent-kafka/core/ConcurrentConsumer"
import type { Delivery } from "@concurrent-kafka/core/ConsumerRecord"
import { ConsumerRegistry } from "@concurrent-kafka/core/ConsumerRegistry"
import { Handler } from "@concurrent-kafka/core/Handler"
import type { Snapshot } from "@concurrent-kafka/core/Snapshot"
import { Effect } from "effect"
import { type Cluster, handlerMillis, Stopwatch } from "./cluster.ts"
import { DemoError } from "./error.ts"

export interface Work {
  readonly topic: string
  readonly group: string
  readonly concurrency: number
  /** The last step of handling a record. */
  readonly finished: (record: Delivery) => void
  /** Called some times a second; the consumer is closed when it answers true. */
  readonly isEnough: (snapshot: Snapshot) => boolean
}

/** The longest time without any record, in milliseconds, before this is given up. */
const patience = 60_000

export interface Worked {
  readonly records: number
  readonly seconds: number
  readonly commits: number
}

const consumer = ({ concurrency, finished, group, topic }: Work, watch: Stopwatch) =>
  ConcurrentConsumer.layerHandler(
    Handler.make(
      topic,
      Effect.fnUntraced(function* (record) {
        watch.begin()
        yield* Effect.sleep(handlerMillis)
        finished(record)
        watch.end()
      })
    ),
    // after a kill -9 the group waits so long for the one that is gone: 30 seconds by default
    { groupId: group, concurrency, sessionTimeout: "10 seconds" }
  )

/** Every consumer of the process is found in the registry, under the name of its group. */
const running = (group: string) =>
  Effect.flatMap(ConsumerRegistry, (registry) =>
    Effect.flatMap(registry.consumers, (consumers) => {
      const found = consumers.find(({ name }) => name === group)
      return found === undefined ? Effect.die(`no consumer ${group}`) : Effect.succeed(found)
    })
  )

const untilEnough = Effect.fnUntraced(function* ({ snapshot }: ConcurrentConsumerShape, { isEnough }: Work) {
  let handled = -1
  let since = Date.now()
  while (true) {
    const seen = yield* snapshot
    if (isEnough(seen)) return
    if (seen.outcomes.handled > handled) {
      handled = seen.outcomes.handled
      since = Date.now()
    } else if (Date.now() - since > patience) {
      const reasons = seen.health.reasons.map(({ message }) => message).join("; ")
      return yield* new DemoError({ reason: `no record for ${patience / 1000} seconds: ${reasons}` })
    }
    yield* Effect.sleep("40 millis")
  }
})

/**
 * Consumes until it is enough. Closing the layer ends the consumer in order, also when this is interrupted: what runs is interrupted,
 * what is done is committed, the group is left. `ended` gets the figures in either case, after that.
 */
export const consume = (cluster: Cluster, work: Work, ended: (worked: Worked) => void) => {
  const watch = new Stopwatch()
  let seen: ConcurrentConsumerShape | undefined
  return Effect.flatMap(running(work.group), (consumer) => {
    seen = consumer
    return Effect.raceFirst(untilEnough(consumer, work), consumer.failure)
  }).pipe(
    Effect.provide(consumer(work, watch)),
    Effect.provide(cluster.client),
    Effect.ensuring(
      Effect.suspend(() =>
        seen === undefined
          ? Effect.void
          : Effect.map(seen.snapshot, ({ commits, outcomes }) =>
              ended({ records: outcomes.handled, seconds: watch.seconds, commits: commits.ok })
            )
      )
    )
  )
}
