/** What a Kafka of our own runs in: Java processes or containers. */
import { Effect, Result } from "effect"
import { KafkaUnavailable } from "./java.ts"

export type Rung<Java, Container> =
  | {
      readonly source: "java"
      readonly how: Java
      /** Why it is not the container that was asked for. */
      readonly insteadOf: KafkaUnavailable | undefined
    }
  | { readonly source: "container"; readonly how: Container }

/**
 * A container that is asked for goes before Java, and Java before one that is not. `strict`: what is asked for and cannot be had is
 * a failure, so that a run of CI that is there for containers is not green without one.
 */
export const choose = Effect.fnUntraced(function* <Java, Container>(ways: {
  readonly java: Effect.Effect<Java, KafkaUnavailable>
  readonly container: Effect.Effect<Container, KafkaUnavailable>
  readonly asked: boolean
  readonly strict: boolean
}): Effect.fn.Return<Rung<Java, Container>, KafkaUnavailable> {
  const wish = ways.asked ? yield* Effect.result(ways.container) : undefined
  if (wish !== undefined && Result.isSuccess(wish)) return { source: "container", how: wish.success }
  if (wish !== undefined && ways.strict) return yield* wish.failure
  const java = yield* Effect.result(ways.java)
  if (Result.isSuccess(java)) return { source: "java", how: java.success, insteadOf: wish?.failure }
  const container = wish ?? (yield* Effect.result(ways.container))
  if (Result.isSuccess(container)) return { source: "container", how: container.success }
  return yield* new KafkaUnavailable({
    missing: java.failure.missing && container.failure.missing,
    reason: `${java.failure.reason}; ${container.failure.reason}`
  })
})
