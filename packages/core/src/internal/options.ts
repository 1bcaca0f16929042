/**
 * Validation of options: each check throws `InvalidOptions` naming the option, the value and what is accepted; `validated`
 * turns that into a typed failure.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SessionOptions, SessionSettings } from "../ConsumerSession.ts"
import { InvalidOptions } from "../InvalidOptions.ts"

export const validated = <A>(check: () => A): Effect.Effect<A, InvalidOptions> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(check())
    } catch (error) {
      if (error instanceof InvalidOptions) return Effect.fail(error)
      throw error
    }
  })

export const refuse = (option: string, value: unknown, accepted: string): never => {
  throw new InvalidOptions({ option, value, accepted })
}

export const integer = (option: string, value: unknown, fallback: number, minimum: number): number => {
  if (value === undefined) return fallback
  return typeof value === "number" && Number.isSafeInteger(value) && value >= minimum
    ? value
    : refuse(option, value, `an integer of at least ${minimum}`)
}

/** milliseconds */
export const millis = (
  option: string,
  value: Duration.Input | undefined,
  fallback: number,
  minimum: number
): number => {
  if (value === undefined) return fallback
  const ms = Option.getOrUndefined(Option.map(Duration.fromInput(value), Duration.toMillis))
  return ms !== undefined && Number.isFinite(ms) && ms >= minimum
    ? ms
    : refuse(option, value, `a finite duration of at least ${minimum} ms`)
}

export const oneOf = <const A extends string>(
  option: string,
  value: unknown,
  fallback: A,
  accepted: ReadonlyArray<A>
): A => {
  if (value === undefined) return fallback
  return accepted.find((a) => a === value) ?? refuse(option, value, accepted.map((a) => JSON.stringify(a)).join(" or "))
}

export const text = (option: string, value: unknown): string =>
  typeof value === "string" && value.length > 0 ? value : refuse(option, value, "a text that is not empty")

export const topicNames = (option: string, value: ReadonlyArray<string>): ReadonlyArray<string> => {
  const names = [...new Set(value)]
  if (names.length === 0) refuse(option, value, "at least one topic name")
  for (const name of names) {
    if (typeof name !== "string" || !/^[a-zA-Z0-9._-]{1,249}$/.test(name) || name === "." || name === "..") {
      refuse(option, name, "topic names of 1 to 249 characters out of a-z A-Z 0-9 . _ -")
    }
  }
  return names
}

export const validateSession = (options: SessionOptions): Effect.Effect<SessionSettings, InvalidOptions> =>
  validated(() => {
    const settings: SessionSettings = {
      groupId: text("groupId", options.groupId),
      topics: topicNames("topics", options.topics),
      isolation: oneOf("isolation", options.isolation, "read_committed", ["read_committed", "read_uncommitted"]),
      sessionTimeout: millis("sessionTimeout", options.sessionTimeout, 30_000, 1),
      heartbeatInterval: millis("heartbeatInterval", options.heartbeatInterval, 3_000, 1),
      rebalanceTimeout: millis("rebalanceTimeout", options.rebalanceTimeout, 60_000, 1),
      revokeTimeout: millis("revokeTimeout", options.revokeTimeout, 10_000, 0),
      metadataMaxAge: millis("metadataMaxAge", options.metadataMaxAge, 30_000, 1),
      maxWait: millis("maxWait", options.maxWait, 250, 1),
      topicTimeout: options.topicTimeout === undefined ? undefined : millis("topicTimeout", options.topicTimeout, 0, 0)
    }
    if (settings.heartbeatInterval * 3 > settings.sessionTimeout) {
      refuse(
        "heartbeatInterval",
        options.heartbeatInterval,
        `at most a third of sessionTimeout (${settings.sessionTimeout} ms)`
      )
    }
    if (settings.revokeTimeout >= settings.rebalanceTimeout) {
      refuse("revokeTimeout", options.revokeTimeout, `less than rebalanceTimeout (${settings.rebalanceTimeout} ms)`)
    }
    return settings
  })
