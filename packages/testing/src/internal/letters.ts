/**
 * Values of records for tests: decoded with a topic, or as text; and the dead letters among them.
 */
import type { ConsumerRecord } from "@concurrent-kafka/core/ConsumerRecord"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import type { Named } from "../TestKit.ts"

const utf8 = new TextDecoder()

export const textOf = (bytes: Uint8Array | null): string | null => (bytes === null ? null : utf8.decode(bytes))

export const nameOf = (topic: string | { readonly name: string }): string =>
  typeof topic === "string" ? topic : topic.name

/** What cannot be decoded stays text. */
export const valueOf = <V, RD>(
  topic: Named<V, RD>,
  { value }: ConsumerRecord
): Effect.Effect<V | string | null, never, RD> =>
  typeof topic === "string"
    ? Effect.succeed(textOf(value))
    : Effect.orElseSucceed(topic.value.decode(value), (): V | string | null => textOf(value))

/** The topics that a policy says its dead letters go to. */
export const deadLetterTopics = (policy: unknown): ReadonlyArray<string> =>
  Predicate.hasProperty(policy, "deadLetterTopics") && Array.isArray(policy.deadLetterTopics)
    ? policy.deadLetterTopics.map(String)
    : []
