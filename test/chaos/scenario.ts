/** One way to treat a group badly, and what is expected of it. */
import type { Effect, Scope } from "effect"
import type { KafkaUnavailable } from "../kafka/kafka.ts"
import type { Arena } from "./arena.ts"
import type { Facts } from "./facts.ts"

/** Sentences about what is not as it should be, beside what must hold of every run. */
export type Expectation = (facts: Facts) => ReadonlyArray<string>

export interface Scenario {
  readonly name: string
  readonly nodes: 1 | 3
  readonly partitions: number
  /** A flush was possible all the time; where the brokers were away it was not. */
  readonly orderly: boolean
  readonly play: (arena: Arena) => Effect.Effect<Expectation, KafkaUnavailable, Scope.Scope>
}

/** Nothing beside. */
export const nothingElse: Expectation = () => []
