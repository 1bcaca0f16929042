/** What the consumers of this service have in common: order by user, patience with what may get well, dead letters for what will not. */
import { ConcurrentConsumer, type HandlerOptions } from "@concurrent-kafka/core/ConcurrentConsumer"
import { FailurePolicy } from "@concurrent-kafka/core/FailurePolicy"
import type { Handler } from "@concurrent-kafka/core/Handler"
import { Effect, Layer, Option, Schedule } from "effect"
import { deadLettersOf } from "./events.ts"
import { Settings } from "./settings.ts"

/** Six attempts within about six seconds; but one where no attempt helps, as with bytes that are no event. */
export const retries = FailurePolicy.retry(
  Schedule.exponential("200 millis").pipe(Schedule.upTo({ times: 5 }), Schedule.jittered),
  { while: FailurePolicy.isRetryable }
)

/** Settings of each consumer. What one of them needs otherwise it says itself. */
export const common = Effect.map(
  Settings,
  ({ instanceId }) =>
    (groupId: string) =>
      ({
        groupId,
        // of one user one after another, of many users at once
        concurrency: 20,
        ordering: "key",
        instanceId: Option.getOrUndefined(instanceId),
        sessionTimeout: "10 seconds",
        heartbeatInterval: "2 seconds"
      }) satisfies Partial<HandlerOptions>
)

export const consume = <E, R>(handler: Handler<E, R>, topic: { readonly name: string }, groupId: string) =>
  Layer.unwrap(
    Effect.map(common, (options) =>
      ConcurrentConsumer.layerHandler(handler, {
        ...options(groupId),
        onFailure: retries.pipe(FailurePolicy.orDeadLetter(deadLettersOf(topic)))
      })
    )
  )
