/**
 * Validation of options: each check throws `InvalidOptions` naming the option, the value and what is accepted; `validated`
 * turns that into a typed failure.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { BatchCommitterOptions } from "../BatchCommitter.ts"
import type { ConsumerOptions, GroupOptions } from "../ConcurrentConsumer.ts"
import type { ConsumerRecord } from "../ConsumerRecord.ts"
import type { Session, SessionOptions, SessionSettings } from "../ConsumerSession.ts"
import type { FailurePolicy } from "../FailurePolicy.ts"
import { type HealthCode, healthCodes } from "../Health.ts"
import { InvalidOptions } from "../InvalidOptions.ts"
import { byKey, type LaneOf } from "./lanes.ts"
import type { ConsumerSettings } from "./state.ts"

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

/** Milliseconds of a finite duration; to `Duration` alone NaN is one, of 0. */
export const finiteMillis = (value: Duration.Input): number | undefined => {
  const ms = Option.getOrUndefined(Option.map(Duration.fromInput(value), Duration.toMillis))
  return ms !== undefined && Number.isFinite(ms) && !Number.isNaN(value) ? ms : undefined
}

/** milliseconds */
export const millis = (
  option: string,
  value: Duration.Input | undefined,
  fallback: number,
  minimum: number
): number => {
  if (value === undefined) return fallback
  const ms = finiteMillis(value)
  return ms !== undefined && ms >= minimum ? ms : refuse(option, value, `a finite duration of at least ${minimum} ms`)
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

const flag = (option: string, value: unknown, fallback: boolean): boolean =>
  value === undefined ? fallback : typeof value === "boolean" ? value : refuse(option, value, "true or false")

export const text = (option: string, value: unknown): string =>
  typeof value === "string" && value.length > 0 ? value : refuse(option, value, "a text that is not empty")

/** a name as Kafka has them */
const isName = (name: unknown): name is string =>
  typeof name === "string" && /^[a-zA-Z0-9._-]{1,249}$/.test(name) && name !== "." && name !== ".."

const instanceName = (option: string, value: unknown): string =>
  isName(value) ? value : refuse(option, value, "a name of 1 to 249 characters out of a-z A-Z 0-9 . _ -")

export const topicNames = (option: string, value: ReadonlyArray<string>): readonly [string, ...Array<string>] => {
  const [first, ...others] = new Set(value)
  if (first === undefined) return refuse(option, value, "at least one topic name")
  const names: readonly [string, ...Array<string>] = [first, ...others]
  for (const name of names) {
    if (!isName(name)) refuse(option, name, "topic names of 1 to 249 characters out of a-z A-Z 0-9 . _ -")
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
      topicTimeout: options.topicTimeout === undefined ? undefined : millis("topicTimeout", options.topicTimeout, 0, 0),
      instanceId: options.instanceId === undefined ? undefined : instanceName("instanceId", options.instanceId),
      groupProtocol:
        options.groupProtocol === undefined
          ? undefined
          : oneOf("groupProtocol", options.groupProtocol, "classic", ["classic", "consumer"]),
      assignor:
        options.assignor === undefined
          ? undefined
          : oneOf("assignor", options.assignor, "sticky", ["sticky", "cooperative-sticky"])
    }
    if (settings.groupProtocol === "consumer" && settings.assignor !== undefined) {
      refuse("assignor", settings.assignor, 'nothing beside groupProtocol "consumer": there the broker assigns')
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

/** milliseconds */
export interface CommitterSettings {
  readonly batchSize: number
  readonly batchInterval: number
  readonly mapInterval: number
  readonly minCommitInterval: number
}

export const validateCommitter = (options: BatchCommitterOptions): Effect.Effect<CommitterSettings, InvalidOptions> =>
  validated(() => ({
    batchSize: integer("batchSize", options.batchSize, 10, 1),
    batchInterval: millis("batchInterval", options.batchInterval, 10_000, 1),
    mapInterval: millis("mapInterval", options.mapInterval, 1_000, 0),
    minCommitInterval: millis("minCommitInterval", options.minCommitInterval, 50, 0)
  }))

/** How many sessions a consumer has. */
export const validateMembers = (options: Pick<GroupOptions, "members">): Effect.Effect<number, InvalidOptions> =>
  validated(() => integer("members", options.members, 1, 1))

export const limit = (option: string, value: unknown, fallback: number): number | "unbounded" =>
  value === "unbounded"
    ? "unbounded"
    : value === undefined || (typeof value === "number" && Number.isSafeInteger(value) && value >= 1)
      ? ((value as number | undefined) ?? fallback)
      : refuse(option, value, 'an integer of at least 1, or "unbounded"')

const filterOf = (filter: ConsumerOptions["headerFilter"]): ((record: ConsumerRecord) => boolean) | undefined => {
  if (filter === undefined || typeof filter === "function") return filter
  const { equals, header } = filter
  const wanted = new TextEncoder().encode(text("headerFilter.equals", equals))
  text("headerFilter.header", header)
  return (record) => record.headers.some(([name, value]) => name === header && value !== null && same(value, wanted))
}

const same = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, i) => byte === b[i])

const codes = (option: string, value: ReadonlyArray<HealthCode> | undefined): ReadonlyArray<HealthCode> => {
  for (const code of value ?? []) if (!healthCodes.includes(code)) refuse(option, code, healthCodes.join(", "))
  return value ?? []
}

const orders = ["unordered", "key", "partition"] as const
const laneOf = { unordered: undefined, key: byKey, partition: () => "" } as const

/** A record that would be handled without its order, in silence, fails instead. */
const named =
  (order: (record: ConsumerRecord) => string): LaneOf =>
  (record) => {
    const name: unknown = order(record)
    if (typeof name === "string") return name
    throw new TypeError("the function given as `ordering` must answer with a string")
  }

const orderOf = (ordering: ConsumerOptions["ordering"]): Pick<ConsumerSettings, "ordering" | "laneOf"> => {
  if (typeof ordering === "function") return { ordering: "function", laneOf: named(ordering) }
  if (ordering !== undefined && !orders.includes(ordering)) {
    refuse("ordering", ordering, `${orders.map((a) => JSON.stringify(a)).join(", ")}, or a function of the record`)
  }
  return { ordering: ordering ?? "unordered", laneOf: laneOf[ordering ?? "unordered"] }
}

/** Whether a consumer can carry out what the policy may answer, as far as the policy says what that is. */
export const validatePolicy = (
  policy: FailurePolicy<never, unknown> | undefined,
  { offsetMap }: Pick<ConsumerSettings, "offsetMap">,
  { capabilities, settings: { topics } }: Pick<Session, "capabilities" | "settings">
): Effect.Effect<void, InvalidOptions> =>
  validated(() => {
    for (const topic of policy?.deadLetterTopics ?? []) {
      if (topics.includes(topic)) {
        refuse("onFailure.deadLetter", topic, `a topic that this consumer does not read: it reads ${topics.join(", ")}`)
      }
    }
    if (policy?.parks !== true) return
    if (offsetMap === "off") refuse("offsetMap", "off", '"own" or "all" beside a policy that parks')
    if (!capabilities.commitMetadata) {
      refuse(
        "onFailure.parks",
        true,
        "a policy that does not park: this client keeps no metadata of commits, and so no offset map"
      )
    }
  })

/** without the map all that has finished behind a stuck record is run again */
const uncommittedUnmapped = 10_000

/** The consumer's options, also against those of its membership. */
export const validateConsumer = (
  options: ConsumerOptions,
  session: SessionSettings,
  commitMetadata: boolean
): Effect.Effect<ConsumerSettings, InvalidOptions> =>
  validated(() => {
    const offsetMap = oneOf("offsetMap", options.offsetMap, "own", ["own", "all", "off"])
    const mapped = offsetMap !== "off" && commitMetadata
    const settings: ConsumerSettings = {
      name: options.name === undefined ? undefined : text("name", options.name),
      concurrency: limit("concurrency", options.concurrency, 10),
      ...orderOf(options.ordering),
      startFrom: oneOf("startFrom", options.startFrom, "earliest", ["earliest", "latest", "fail"]),
      onOutOfRange: oneOf("onOutOfRange", options.onOutOfRange, "earliest", ["earliest", "latest", "fail"]),
      offsetMap,
      maxUncommitted: integer(
        "maxUncommitted",
        options.maxUncommitted ?? (mapped ? undefined : uncommittedUnmapped),
        100_000,
        1
      ),
      maxHeldRecords: integer("maxHeldRecords", options.maxHeldRecords, 20_000, 1),
      maxHeldBytes: integer("maxHeldBytes", options.maxHeldBytes, 32 * 1024 * 1024, 1),
      wrap: options.wrap,
      headerFilter: filterOf(options.headerFilter),
      shutdown: oneOf("shutdown", options.shutdown, "interrupt", ["interrupt", "drain"]),
      shutdownTimeout: millis("shutdownTimeout", options.shutdownTimeout, 20_000, 1),
      flushReserve: millis("flushReserve", options.flushReserve, 2_000, 0),
      revokeDrain: millis("revokeDrain", options.revokeDrain, 5_000, 0),
      interruptGrace: millis("interruptGrace", options.interruptGrace, 1_000, 0),
      stuckAfter: millis("stuckAfter", options.stuckAfter, 60_000, 1),
      health: {
        readyNeeds: codes("health.readyNeeds", options.health?.readyNeeds),
        liveNeeds: codes("health.liveNeeds", options.health?.liveNeeds)
      },
      revealRecords: flag("revealRecords", options.revealRecords, false)
    }
    const { flushReserve, interruptGrace, revokeDrain, shutdownTimeout } = settings
    if (interruptGrace + flushReserve >= shutdownTimeout) {
      refuse(
        "shutdownTimeout",
        options.shutdownTimeout,
        `more than interruptGrace + flushReserve (${interruptGrace + flushReserve} ms)`
      )
    }
    if (revokeDrain + interruptGrace + flushReserve >= session.revokeTimeout) {
      refuse(
        "revokeTimeout",
        session.revokeTimeout,
        `more than revokeDrain + interruptGrace + flushReserve (${revokeDrain + interruptGrace + flushReserve} ms)`
      )
    }
    return settings
  })
