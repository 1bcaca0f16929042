/**
 * The consumers of this process.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { CommitterDied } from "./CommitterDied.ts"
import type { ConcurrentConsumerShape } from "./ConcurrentConsumer.ts"
import type { ConsumerError } from "./ConsumerError.ts"
import { InvalidOptions } from "./InvalidOptions.ts"

/**
 * Every consumer registers here while its layer is open, under a name that is unique: health endpoints and pages read it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Registry {
  readonly consumers: Effect.Effect<ReadonlyArray<ConcurrentConsumerShape>>
  /** Ends with the first failure of a registered consumer whose `onEnd` is not `"report"`. */
  readonly failure: Effect.Effect<never, ConsumerError | CommitterDied>
  /** The name to register under: the wanted one, or the group id with `#2`, `#3` and so on when it is taken. */
  readonly nameFor: (groupId: string) => string
  /** Until the scope closes. **Errors**: the name is taken. */
  readonly register: (
    consumer: ConcurrentConsumerShape,
    options?: { readonly onEnd?: "fail" | "report" | undefined }
  ) => Effect.Effect<void, InvalidOptions, Scope.Scope>
}

/**
 * A registry of its own: for tests, and for `ConcurrentConsumer.launch`. With a parent its consumers are seen there too.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeRegistry = (parent?: Registry): Registry => {
  const consumers = new Map<string, ConcurrentConsumerShape>()
  const failed = Deferred.makeUnsafe<never, ConsumerError | CommitterDied>()
  const nameFor = (groupId: string): string => {
    for (let n = 1; ; n++) {
      const name = n === 1 ? groupId : `${groupId}#${n}`
      if (!consumers.has(name) && (parent === undefined || parent.nameFor(name) === name)) return name
    }
  }
  return {
    consumers: Effect.sync(() => [...consumers.values()]),
    failure: Deferred.await(failed),
    nameFor,
    register: Effect.fnUntraced(function* (consumer, options) {
      yield* Effect.acquireRelease(
        Effect.suspend(() => {
          if (consumers.has(consumer.name)) {
            return Effect.fail(
              new InvalidOptions({
                option: "name",
                value: consumer.name,
                accepted: "a name that no other consumer of the process has"
              })
            )
          }
          consumers.set(consumer.name, consumer)
          return Effect.void
        }),
        () => Effect.sync(() => consumers.delete(consumer.name))
      )
      if (parent !== undefined) yield* parent.register(consumer, options)
      if (options?.onEnd === "report") return
      yield* Effect.forkScoped(
        Effect.onExit(consumer.failure, (exit) =>
          Effect.sync(() => {
            if (Exit.isFailure(exit) && exit.cause.reasons.some((reason) => reason._tag === "Fail")) {
              Deferred.doneUnsafe(failed, exit)
            }
          })
        ).pipe(Effect.catchCause(() => Effect.void)),
        { startImmediately: true }
      )
    })
  }
}

/**
 * The registry that consumers register in. The default is one for the whole process (for each copy of this package).
 *
 * @since 0.1.0
 * @category references
 */
export const ConsumerRegistry = Context.Reference<Registry>("@concurrent-kafka/core/ConsumerRegistry", {
  defaultValue: () => makeRegistry()
})
