/**
 * Processes: the same program, again and again, each life with a scheduler that stops when it is killed.
 */
import type { CommitterDied } from "@concurrent-kafka/core/CommitterDied"
import type { ConsumerError } from "@concurrent-kafka/core/ConsumerError"
import { ConsumerRegistry, makeRegistry, type Registry } from "@concurrent-kafka/core/ConsumerRegistry"
import type { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import type { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { type ClientOptions, type Cluster, MemoryKafka } from "../MemoryKafka.ts"

export type Provided = KafkaClient | KafkaProducer | MemoryKafka

export interface Life<E> {
  readonly name: string
  readonly registry: Registry
  readonly fiber: Fiber.Fiber<never, E | ConsumerError | CommitterDied>
  isDead: boolean
  isBuilt: boolean
  /** when the program has ended, by itself or closed */
  exit: Exit.Exit<never, E | ConsumerError | CommitterDied> | undefined
}

export const begin = <E, R>(options: {
  readonly name: string
  readonly program: Layer.Layer<never, E, R>
  readonly outside: Context.Context<Exclude<R, Provided>>
  readonly cluster: Cluster
  readonly client: ClientOptions
  /** its scheduler, and whatever else is of this process alone */
  readonly inside: (life: { readonly isDead: boolean }) => Context.Context<never>
}): Life<E> => {
  const { client, cluster, inside, name, outside, program } = options
  const registry = makeRegistry()
  const kafka = MemoryKafka.layerClient({ ...client, clientId: name }).pipe(
    Layer.provideMerge(Layer.succeed(MemoryKafka, cluster))
  )
  const state: Pick<Life<E>, "isDead" | "isBuilt" | "exit"> = { isDead: false, isBuilt: false, exit: undefined }
  const context = Context.merge(outside, inside(state)).pipe(Context.add(ConsumerRegistry, registry))
  const whole = Effect.scoped(
    Effect.gen(function* () {
      // a memo map of its own: what another life has built is not there any more
      const layer = Layer.provide(program, kafka)
      yield* Layer.buildWithMemoMap(layer, yield* Layer.makeMemoMap, yield* Effect.scope)
      state.isBuilt = true
      return yield* registry.failure
    })
  )
  const fiber = Effect.runForkWith(context)(whole)
  const life: Life<E> = Object.assign(state, { name, registry, fiber })
  fiber.addObserver((exit) => {
    life.exit = exit
  })
  return life
}

/** kill -9 */
export const kill = (life: { readonly name: string; isDead: boolean }, cluster: Cluster): void => {
  life.isDead = true
  for (const session of cluster.sessionsUnsafe()) {
    if (session.clientId === life.name && session.isOpenUnsafe()) Effect.runSync(session.crash)
  }
}
