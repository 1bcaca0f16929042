/**
 * Sessions that are read in the background, under TestClock.
 */
import type { Session, SessionSettings } from "@concurrent-kafka/core/ConsumerSession"
import {
  type Cluster,
  type ClientOptions,
  MemoryKafka,
  type MemoryKafkaOptions
} from "@concurrent-kafka/testing/MemoryKafka"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { sessionSettings as settings } from "../../core/test/sessionSettings.ts"
import { makeKit, type Reader, type ReaderOptions } from "../src/internal/contract/kit.ts"
import { harness } from "./harness.ts"

export { settings }

const kit = makeKit({ layer: MemoryKafka.layer(), harness, protocol: "eager" })

export interface Member extends Reader {
  readonly session: Session
}

export interface MemberOptions extends ClientOptions, ReaderOptions {
  readonly settings?: Partial<SessionSettings> | undefined
}

/** Opens, joins in the background, reads. */
export const member = (
  kafka: Cluster,
  clientId: string,
  options: MemberOptions = {}
): Effect.Effect<Reader, never, Scope.Scope> =>
  Effect.gen(function* () {
    const client = kafka.client({ clientId, ...options })
    const session = yield* Effect.orDie(client.openSession({ ...settings, ...options.settings }))
    const reader = yield* kit.read(session, options)
    yield* Effect.forkScoped(Effect.ignore(session.join))
    yield* turns
    return reader
  })

/** Lets everything happen that needs no time. */
export const turns: Effect.Effect<void> = Effect.repeat(Effect.yieldNow, { times: 60 })

/** Moves the clock in small steps, as an event loop would see it. */
export const advance = (ms: number, step = 50): Effect.Effect<void> =>
  Effect.gen(function* () {
    yield* turns
    for (let left = ms; left > 0; left -= step) {
      yield* TestClock.adjust(Math.min(step, left))
      yield* turns
    }
  })

/** Runs with a cluster of its own that has topic `t`. */
export const cluster = <A, E>(
  options: MemoryKafkaOptions & { readonly partitions?: number },
  f: (kafka: Cluster) => Effect.Effect<A, E, Scope.Scope>
): Effect.Effect<A, E, Scope.Scope> =>
  Effect.gen(function* () {
    const kafka = yield* MemoryKafka.make({ trace: true, ...options })
    yield* kafka.createTopic("t", { partitions: options.partitions ?? 1 })
    return yield* f(kafka)
  })

export const fill = (kafka: Cluster, partition: number, count: number): Effect.Effect<void> =>
  Effect.asVoid(
    kafka.produce(
      "t",
      Array.from({ length: count }, (_, i) => ({ partition, value: `${partition}:${i}` }))
    )
  )

/** A small generator of chance, so that a run is repeated by its seed (mulberry32). */
export const seeded = (seed: number) => {
  let state = seed >>> 0
  return {
    next: () => {
      state = (state + 0x6d2b79f5) >>> 0
      let t = Math.imul(state ^ (state >>> 15), 1 | state)
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
      return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
    }
  }
}
