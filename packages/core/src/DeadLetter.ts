/**
 * The dead letter as a record: what it carries of the record that failed, and how to read and undo it.
 *
 * Invariants, each tested in `deadLetter.test.ts`:
 * - key, value and headers are passed on byte for byte, in order, with duplicates and nulls; only headers whose names are ours
 *   are replaced ("passes on key, value and headers as they were").
 * - what is added stays under 4 KiB whatever topic, group, reason and error are ("adds at most 4 KiB").
 * - no text is taken from the record, nor from an error that may quote it ("tells of a foreign error nothing but its name").
 * - reading never throws: a header is anybody's input ("reads anything without throwing"), and a client may decode it only now;
 *   a dead letter of a record whose headers cannot be read has ours alone, and such a record is not sent back.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import type { ConsumerRecord, Headers } from "./ConsumerRecord.ts"
import { nameOf } from "./internal/describe.ts"
import { messageOfOurs } from "./internal/ourErrors.ts"
import { readableHeaders } from "./internal/recordHeaders.ts"
import type { ProducerRecord } from "./KafkaProducer.ts"

/**
 * What a dead letter says of itself, in headers beside those of the record that failed.
 *
 * | header | value |
 * | --- | --- |
 * | `x-dead-letter-topic` | topic of the record that failed |
 * | `x-dead-letter-partition` | its partition |
 * | `x-dead-letter-offset` | its offset |
 * | `x-dead-letter-timestamp` | its timestamp, ms since 1970, or `-1` |
 * | `x-dead-letter-group` | the consumer group that gave it up, cut to 512 bytes |
 * | `x-dead-letter-attempts` | how often its handler was tried |
 * | `x-dead-letter-error` | tag or name of the error, cut to 256 bytes; `HandlerInterrupted` when it was interrupted by somebody else |
 * | `x-dead-letter-message` | message of the error, cut to 1 KiB; only of this library's own errors, whose messages hold no data |
 * | `x-dead-letter-reason` | what the policy or the handler gave as its reason, cut to 1 KiB; absent when nothing was given |
 * | `x-dead-letter-first-failed-at` | first failure, ms since 1970 on the consumer's clock |
 * | `x-dead-letter-last-failed-at` | last failure, ms since 1970 on the consumer's clock |
 * | `x-dead-letter-hops` | how often it has been dead-lettered, this time included; stays when it is sent back |
 *
 * All values are UTF-8 text, numbers in decimal. Control characters in a text are replaced by spaces.
 *
 * @since 0.1.0
 * @category models
 */
export interface DeadLetter {
  readonly topic: string
  readonly partition: number
  readonly offset: bigint
  /** Milliseconds since 1970, or `-1`: the timestamp of the record that failed. */
  readonly timestamp: bigint
  readonly groupId: string
  readonly attempts: number
  /** Tag or name of the error. */
  readonly error: string
  /** Only of errors of this library. */
  readonly message: string | undefined
  readonly reason: string | undefined
  /** Milliseconds since 1970. */
  readonly firstFailedAt: number
  /** Milliseconds since 1970. */
  readonly lastFailedAt: number
  /** `1` the first time. */
  readonly hops: number
}

const prefix = "x-dead-letter-"

const names = {
  topic: `${prefix}topic`,
  partition: `${prefix}partition`,
  offset: `${prefix}offset`,
  timestamp: `${prefix}timestamp`,
  groupId: `${prefix}group`,
  attempts: `${prefix}attempts`,
  error: `${prefix}error`,
  message: `${prefix}message`,
  reason: `${prefix}reason`,
  firstFailedAt: `${prefix}first-failed-at`,
  lastFailedAt: `${prefix}last-failed-at`,
  hops: `${prefix}hops`
} as const satisfies Record<keyof DeadLetter, string>

const ours: ReadonlySet<string> = new Set(Object.values(names))

/** Bytes. A legal topic's name has 249, so that only what is no topic is ever cut; together they stay under 4 KiB. */
const limits = { topic: 249, groupId: 512, error: 256, message: 1024, reason: 1024 } as const

/** The counter is read back up to three digits: far above `maxHops`, and no number that is made up grows without bound. */
const countable = 999

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** Control characters, line and paragraph separators, and what turns the direction of writing: they forge lines and hide text. */
const control = /[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/gu

/** At most so many bytes of UTF-8, whole characters only. Cut first, as the text may be huge: a UTF-16 unit is a byte or more. */
const encodeText = (value: string, limit: number): Uint8Array => {
  const bytes = new Uint8Array(limit)
  const { written } = encoder.encodeInto(value.slice(0, limit + 1).replace(control, " "), bytes)
  return bytes.slice(0, written)
}

const withoutOurs = (headers: Headers): Headers => headers.filter(([name]) => !ours.has(name))

/** The last header of a name counts, as for Kafka's own clients. */
const last = (headers: Headers, name: string): Uint8Array | null | undefined =>
  headers.findLast((header) => header[0] === name)?.[1]

const decodeText = (headers: Headers, name: string, limit: number): string | undefined => {
  const bytes = last(headers, name)
  if (bytes === undefined || bytes === null || bytes.byteLength > limit) return undefined
  try {
    return decoder.decode(bytes).replace(control, " ")
  } catch {
    return undefined
  }
}

const decodeLong = (headers: Headers, name: string): bigint | undefined => {
  const text = decodeText(headers, name, 20)
  if (text === undefined || !/^-?[0-9]{1,19}$/.test(text)) return undefined
  const value = BigInt(text)
  return BigInt.asIntN(64, value) === value ? value : undefined
}

const decodeCount = (headers: Headers, name: string): number | undefined => {
  const value = decodeLong(headers, name)
  return value !== undefined && value >= 0n && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : undefined
}

/** A typed error tells more than the defect of a finalizer beside it, and both more than an interruption. */
const describe = (cause: Cause.Cause<unknown>): { readonly error: string; readonly message: string | undefined } => {
  const fail = cause.reasons.find(Cause.isFailReason)
  if (fail !== undefined) return { error: nameOf(fail.error), message: messageOfOurs(fail.error) }
  const die = cause.reasons.find(Cause.isDieReason)
  if (die !== undefined) return { error: nameOf(die.defect), message: messageOfOurs(die.defect) }
  return { error: "HandlerInterrupted", message: undefined }
}

/**
 * Makes and reads dead letters.
 *
 * @since 0.1.0
 * @category constructors
 */
export const DeadLetter: {
  /**
   * The record to be sent to `topic`: key, value and headers as they were, headers with our names replaced by ours. The
   * partition goes by the key, the timestamp is that of sending: with the old one the topic's retention might delete it at once.
   * Headers that cannot be read are left out; a consumer warns of that. Never throws.
   *
   * **Cost**: our headers take at most 4 KiB.
   *
   * **Units**: `firstFailedAt`, `lastFailedAt` are milliseconds since 1970.
   */
  readonly make: (options: {
    readonly topic: string
    readonly record: ConsumerRecord
    readonly groupId: string
    readonly attempts: number
    readonly cause: Cause.Cause<unknown>
    /** Goes into a header as it is, cut: no data of the record unless the topic's readers may have it. */
    readonly reason?: string | undefined
    readonly firstFailedAt: number
    readonly lastFailedAt: number
  }) => ProducerRecord
  /**
   * The record to be sent to `topic` to be handled again: as it was before it failed, but for the counter of hops, and a `traceparent`
   * that its dead letter has got where `Traces` were on and it had none.
   *
   * Where to is the caller's to say: who may write to the dead-letter topic could name any topic in a header.
   *
   * **Errors**: throws what reading the headers throws, where they cannot be read: without them it would not be as it was.
   */
  readonly restore: (options: { readonly topic: string; readonly record: ConsumerRecord }) => ProducerRecord
  /** What a dead letter says of itself; `undefined` when it is none or its headers are malformed. Never throws. */
  readonly read: (record: ConsumerRecord) => DeadLetter | undefined
  /**
   * How often this record has been dead-lettered. What is no count is `0`: who can write to the topic can reset it, and can as
   * well send the record anew.
   */
  readonly hopsOf: (record: ConsumerRecord) => number
  /**
   * A record that has been dead-lettered so often is not sent again: its policy's next decision is taken.
   *
   * **Default**: 16, more than anybody sends a record back, and little for a topic that is its own dead-letter topic over
   * several consumers.
   */
  readonly maxHops: number
} = {
  make({ attempts, cause, firstFailedAt, groupId, lastFailedAt, reason, record, topic }) {
    const { error, message } = describe(cause)
    const text = (name: "topic" | "groupId" | "error" | "message" | "reason", value: string) =>
      // a policy that is not typed may give anything as a reason
      [names[name], encodeText(typeof value === "string" ? value : "", limits[name])] as const
    const number = (name: keyof DeadLetter, value: bigint | number) =>
      [names[name], encoder.encode(String(typeof value === "number" ? Math.trunc(value) : value))] as const
    return {
      topic,
      key: record.key,
      value: record.value,
      headers: [
        ...withoutOurs(readableHeaders(record) ?? []),
        text("topic", record.topic),
        number("partition", record.partition),
        number("offset", record.offset),
        number("timestamp", record.timestamp),
        text("groupId", groupId),
        number("attempts", attempts),
        text("error", error),
        ...(message === undefined ? [] : [text("message", message)]),
        ...(reason === undefined ? [] : [text("reason", reason)]),
        number("firstFailedAt", firstFailedAt),
        number("lastFailedAt", lastFailedAt),
        number("hops", Math.min(countable, DeadLetter.hopsOf(record) + 1))
      ]
    }
  },
  restore({ record, topic }) {
    const hops = DeadLetter.hopsOf(record)
    return {
      topic,
      key: record.key,
      value: record.value,
      headers:
        hops === 0
          ? withoutOurs(record.headers)
          : [...withoutOurs(record.headers), [names.hops, encoder.encode(String(hops))]]
    }
  },
  read(record) {
    const headers = readableHeaders(record) ?? []
    const topic = decodeText(headers, names.topic, limits.topic)
    const partition = decodeCount(headers, names.partition)
    const offset = decodeLong(headers, names.offset)
    const timestamp = decodeLong(headers, names.timestamp)
    const groupId = decodeText(headers, names.groupId, limits.groupId)
    const attempts = decodeCount(headers, names.attempts)
    const error = decodeText(headers, names.error, limits.error)
    const firstFailedAt = decodeCount(headers, names.firstFailedAt)
    const lastFailedAt = decodeCount(headers, names.lastFailedAt)
    const hops = decodeCount(headers, names.hops)
    if (topic === undefined || partition === undefined || offset === undefined || offset < 0n) return undefined
    if (timestamp === undefined || groupId === undefined || attempts === undefined || error === undefined)
      return undefined
    if (firstFailedAt === undefined || lastFailedAt === undefined || hops === undefined || hops > countable)
      return undefined
    return {
      topic,
      partition,
      offset,
      timestamp,
      groupId,
      attempts,
      error,
      message: decodeText(headers, names.message, limits.message),
      reason: decodeText(headers, names.reason, limits.reason),
      firstFailedAt,
      lastFailedAt,
      hops
    }
  },
  hopsOf(record) {
    const headers = readableHeaders(record) ?? []
    const hops = decodeCount(headers, names.hops)
    return hops === undefined || hops > countable ? 0 : hops
  },
  maxHops: 16
}
