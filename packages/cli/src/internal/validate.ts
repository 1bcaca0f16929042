/** What can be said of the options before anything is connected. */
import { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import type { ExplainOptions } from "../Explain.ts"
import type { RedriveOptions } from "../Redrive.ts"
import { RedriveFilter } from "../RedriveFilter.ts"

const invalid = (option: string, value: unknown, accepted: string) =>
  Effect.fail(new InvalidOptions({ option, value, accepted }))

const attempt = <A>(f: () => A): Effect.Effect<A, InvalidOptions> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(f())
    } catch (error) {
      return error instanceof InvalidOptions ? Effect.fail(error) : Effect.die(error)
    }
  })

/** The same redrive has the same group, and one with another filter has another. */
export const groupIdOf = ({ filter = {}, from, to }: RedriveOptions): string => {
  const { error, offsetFrom, offsetTo, partition, since, topic, until } = filter
  const parts = [topic, partition, offsetFrom, offsetTo, error, since, until].map((part) => part?.toString() ?? null)
  if (parts.every((part) => part === null)) return `redrive.${from}.${to}`
  return `redrive.${from}.${to}.${createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 12)}`
}

const isTopic = (name: string) => /^[a-zA-Z0-9._-]{1,249}$/.test(name) && name !== "." && name !== ".."
const aTopic = "a topic: 1 to 249 characters out of a-z A-Z 0-9 . _ -"
const aGroupId = "a text that is not empty"

export const validateExplain = ({ groupId, offsetMap = "own", topic }: ExplainOptions) =>
  Effect.gen(function* () {
    if (groupId === "") return yield* invalid("groupId", groupId, aGroupId)
    if (!isTopic(topic)) return yield* invalid("topic", topic, aTopic)
    if (offsetMap !== "own" && offsetMap !== "all") return yield* invalid("offsetMap", offsetMap, '"own" or "all"')
    return { groupId, topic, offsetMap }
  })

export const validate = (options: RedriveOptions) =>
  Effect.gen(function* () {
    const { concurrency = 100, dryRun = false, filter = {}, from, to } = options
    for (const [option, name] of [
      ["from", from],
      ["to", to]
    ] as const) {
      if (!isTopic(name)) return yield* invalid(option, name, aTopic)
    }
    if (from === to) return yield* invalid("to", to, "another topic than from: a redrive would meet what it has sent")
    if (!(Number.isSafeInteger(concurrency) && concurrency >= 1))
      return yield* invalid("concurrency", concurrency, "an integer of at least 1")
    if (options.groupId === "") return yield* invalid("groupId", "", aGroupId)
    if (filter.where !== undefined && options.groupId === undefined)
      return yield* invalid("groupId", undefined, "a group id, where filter.where is given: it remembers how far it is")
    const matches = yield* attempt(() => RedriveFilter.toPredicate(filter))
    return { concurrency, dryRun, from, to, matches, groupId: options.groupId ?? groupIdOf(options) }
  })
