import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Schema from "effect/Schema"
import { DecodeError } from "../src/Codec.ts"
import type { ConsumerRecord, Headers } from "../src/ConsumerRecord.ts"
import { DeadLetter } from "../src/DeadLetter.ts"
import { HandlerTimeout } from "../src/Handler.ts"
import { KafkaClientError } from "../src/KafkaClient.ts"
import { PublishError } from "../src/KafkaProducer.ts"

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (value: Uint8Array | null) => (value === null ? null : new TextDecoder().decode(value))

const record = (changes: Partial<ConsumerRecord> = {}): ConsumerRecord => ({
  topic: "orders",
  partition: 3,
  offset: 42n,
  timestamp: 1_700_000_000_123n,
  key: bytes("order-7"),
  value: bytes("{}"),
  headers: [],
  ...changes
})

type MakeOptions = Parameters<typeof DeadLetter.make>[0]

const make = (changes: Partial<MakeOptions> = {}) =>
  DeadLetter.make({
    topic: "orders.dead-letter",
    record: record(),
    groupId: "shipping",
    attempts: 6,
    cause: Cause.fail({ _tag: "ShipError" }),
    firstFailedAt: 1_700_000_001_000,
    lastFailedAt: 1_700_000_031_000,
    ...changes
  })

/** As a consumer of the dead-letter topic gets it. */
const received = (changes: Partial<MakeOptions> = {}): ConsumerRecord => {
  const { headers, key, topic, value } = make(changes)
  return { topic, partition: 0, offset: 9n, timestamp: 5n, key: key ?? null, value, headers: headers ?? [] }
}

/** As Kafka stores them: lengths are varints, of at most three bytes here. */
const storedBytes = (headers: Headers) =>
  headers.reduce((sum, [name, value]) => sum + 6 + bytes(name).byteLength + (value?.byteLength ?? 0), 0)

const isOurs = (name: string) => name.startsWith("x-dead-letter-")

const header = (headers: Headers, name: string) => text(headers.find((header) => header[0] === name)?.[1] ?? null)

const Bytes = Schema.NullOr(
  Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 }))).check(Schema.isMaxLength(30))
)
const toBytes = (value: typeof Bytes.Type) => (value === null ? null : Uint8Array.from(value))

/** Characters of 1 to 4 bytes, halves of a pair, and what is taken out. */
const pieces = [
  "a",
  "orders",
  "\u00e9",
  "\u20ac",
  "\u{1f600}",
  "\ud83d",
  "\ude00",
  "\n",
  "\u0000",
  "\u001b[31m",
  "\u202e",
  "\u0085"
]
const Text = Schema.Struct({
  pieces: Schema.Array(Schema.Literals(pieces)).check(Schema.isMinLength(1), Schema.isMaxLength(20)),
  times: Schema.Literals([1, 3, 40, 2_000])
})
const toText = ({ pieces, times }: typeof Text.Type) => pieces.join("").repeat(times)

const Name = Schema.Literals([
  "trace",
  "trace",
  "",
  "x-dead-letter-topic",
  "x-dead-letter-hops",
  "x-dead-letter-new",
  "X-Dead-Letter-Topic"
])
const SomeHeaders = Schema.Array(Schema.Struct({ name: Name, value: Bytes })).check(Schema.isMaxLength(8))
const toHeaders = (headers: typeof SomeHeaders.Type): Headers =>
  headers.map(({ name, value }) => [name, toBytes(value)] as const)

const errors: ReadonlyArray<(text: string) => Cause.Cause<unknown>> = [
  (text) => Cause.fail({ _tag: text }),
  (text) => Cause.die(Object.assign(new Error(text), { name: text })),
  (text) => Cause.fail(new PublishError({ reason: "refused", code: text, detail: text })),
  (text) => Cause.fail(new KafkaClientError({ reason: "Timeout", detail: text })),
  (text) => Cause.fail(text),
  () => Cause.interrupt(1)
]

describe("DeadLetter.make", () => {
  it.prop(
    "passes on key, value and headers as they were: in order, with duplicates and nulls, without those that are named as ours",
    [SomeHeaders, Bytes, Bytes],
    ([headers, key, value]) => {
      const incoming = toHeaders(headers)
      const letter = make({ record: record({ headers: incoming, key: toBytes(key), value: toBytes(value) }) })
      assert.deepStrictEqual(letter.key, toBytes(key))
      assert.deepStrictEqual(letter.value, toBytes(value))
      const kept = incoming.filter(([name]) => name !== "x-dead-letter-topic" && name !== "x-dead-letter-hops")
      assert.deepStrictEqual(letter.headers?.slice(0, kept.length), kept)
      const added = letter.headers?.slice(kept.length).map(([name]) => name) ?? []
      assert.isTrue(added.every(isOurs))
      assert.strictEqual(new Set(added).size, added.length)
    },
    { arbitrary: { runs: 300, size: 20 } }
  )

  it.prop(
    "adds at most 4 KiB, of which no text is longer than 1 KiB, whatever topic, group, reason and error are",
    [Text, Text, Text, Text, Schema.Literals([0, 1, 2, 3, 4, 5])],
    ([topic, groupId, reason, error, kind]) => {
      const { headers = [] } = make({
        record: record({
          topic: toText(topic),
          partition: 2_147_483_647,
          offset: 2n ** 63n - 1n,
          timestamp: -(2n ** 63n)
        }),
        groupId: toText(groupId),
        reason: toText(reason),
        cause: errors[kind]!(toText(error)),
        attempts: Number.MAX_SAFE_INTEGER,
        firstFailedAt: Number.MAX_SAFE_INTEGER,
        lastFailedAt: Number.MAX_SAFE_INTEGER
      })
      assert.isAtMost(storedBytes(headers), 4_096)
      for (const [name, value] of headers) {
        assert.isAtMost(value?.byteLength ?? 0, 1_024, name)
        // whole characters, and none that would change what a terminal or a log shows
        const shown = new TextDecoder("utf-8", { fatal: true }).decode(value ?? new Uint8Array(0))
        assert.notMatch(shown, /[\p{Cc}\u202a-\u202e\u2066-\u2069]/u, name)
      }
    },
    { arbitrary: { runs: 300, size: 20 } }
  )

  it("the largest of everything fits into 4 KiB", () => {
    const long = "x".repeat(100_000)
    const { headers = [] } = make({
      record: record({ topic: long, offset: 2n ** 63n - 1n, headers: [["x-dead-letter-hops", bytes("999")]] }),
      groupId: long,
      reason: long,
      cause: Cause.fail(new PublishError({ reason: "refused", code: long, detail: long }))
    })
    assert.isAtMost(storedBytes(headers), 4_096)
    assert.strictEqual(header(headers, "x-dead-letter-reason"), "x".repeat(1_024))
    assert.strictEqual(header(headers, "x-dead-letter-message")?.length, 1_024)
    assert.strictEqual(header(headers, "x-dead-letter-error"), "PublishError")
  })

  it("tells of a foreign error nothing but its name, for its message may quote the record", () => {
    const secret = "4111-1111-1111-1111"
    const causes: ReadonlyArray<readonly [Cause.Cause<unknown>, string]> = [
      [Cause.fail({ _tag: "ShipError", message: secret, card: secret }), "ShipError"],
      [Cause.die(new TypeError(secret)), "TypeError"],
      [Cause.fail(secret), "string"],
      [Cause.fail(undefined), "undefined"],
      [Cause.fail(null), "object"],
      [Cause.fail({ card: secret }), "unknown"],
      [Cause.fail({ _tag: { card: secret } }), "unknown"],
      [
        Cause.fail({
          get _tag(): string {
            throw new Error(secret)
          }
        }),
        "unknown"
      ],
      [Cause.interrupt(1), "HandlerInterrupted"],
      [Cause.empty, "HandlerInterrupted"],
      [Cause.combine(Cause.die(new TypeError(secret)), Cause.fail({ _tag: "ShipError" })), "ShipError"]
    ]
    for (const [cause, name] of causes) {
      const { headers = [] } = make({ cause, record: record({ value: bytes(secret), key: bytes(secret) }) })
      assert.strictEqual(header(headers, "x-dead-letter-error"), name)
      assert.isUndefined(headers.find(([name]) => name === "x-dead-letter-message"))
      for (const [, value] of headers) assert.notInclude(text(value), "4111")
    }
  })

  it("tells the message of our own errors, which holds no data", () => {
    const letter = DeadLetter.read(received({ cause: Cause.fail(new HandlerTimeout({ afterMillis: 30_000 })) }))
    assert.strictEqual(letter?.error, "HandlerTimeout")
    assert.strictEqual(letter?.message, "the handler did not finish within 30000 ms and was interrupted")
    const error = new DecodeError({ topic: "orders", part: "value", message: 'at ["id"]: expected string' })
    assert.strictEqual(DeadLetter.read(received({ cause: Cause.fail(error) }))?.message, error.message)
  })

  it("replaces what would forge lines in a log or turn a terminal", () => {
    const letter = DeadLetter.read(
      received({ reason: "a\r\nERROR b\u001b[2J\u202ec", cause: Cause.fail({ _tag: "A\nB" }) })
    )
    assert.strictEqual(letter?.reason, "a  ERROR b [2J c")
    assert.strictEqual(letter?.error, "unknown")
  })
})

describe("DeadLetter.read", () => {
  const Count = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }))

  it.prop(
    "reads back what was made",
    [Count, Count, Count, SomeHeaders, Schema.UndefinedOr(Schema.Literals(["", "a reason \u20ac"]))],
    ([offset, at, attempts, headers, reason]) => {
      const failed = record({
        offset: BigInt(offset) * 1_000n,
        timestamp: BigInt(at) - 1n,
        headers: toHeaders(headers)
      })
      const letter = DeadLetter.read(
        received({ record: failed, attempts, reason, firstFailedAt: at, lastFailedAt: offset })
      )
      assert.deepStrictEqual(letter, {
        topic: "orders",
        partition: 3,
        offset: failed.offset,
        timestamp: failed.timestamp,
        groupId: "shipping",
        attempts,
        error: "ShipError",
        message: undefined,
        reason,
        firstFailedAt: at,
        lastFailedAt: offset,
        hops: DeadLetter.hopsOf(failed) + 1
      })
    },
    { arbitrary: { runs: 200, size: 20 } }
  )

  it("a record without our headers, or with one of them missing, is no dead letter", () => {
    assert.isUndefined(DeadLetter.read(record()))
    const letter = received({ reason: "r" })
    assert.isDefined(DeadLetter.read(letter))
    for (const [name] of letter.headers) {
      const rest = DeadLetter.read({ ...letter, headers: letter.headers.filter((header) => header[0] !== name) })
      if (name === "x-dead-letter-reason") assert.isUndefined(rest?.reason)
      else assert.isUndefined(rest, name)
    }
  })

  it("a record whose headers cannot be read is none, has no count, and is never sent back without them", () => {
    const broken = Object.defineProperty(record(), "headers", {
      get: () => {
        throw new RangeError("a header has no name")
      }
    })
    assert.isUndefined(DeadLetter.read(broken))
    assert.strictEqual(DeadLetter.hopsOf(broken), 0)
    assert.throws(() => DeadLetter.restore({ topic: "orders", record: broken }), /no name/)
  })

  it("the last header of a name counts", () => {
    const letter = received()
    const twice = [["x-dead-letter-offset", bytes("7")] as const, ...letter.headers]
    assert.strictEqual(DeadLetter.read({ ...letter, headers: twice })?.offset, 42n)
  })

  const fields = [
    "topic",
    "partition",
    "offset",
    "timestamp",
    "group",
    "attempts",
    "error",
    "first-failed-at",
    "last-failed-at",
    "hops"
  ]
  const garbage: ReadonlyArray<Uint8Array | null> = [
    null,
    Uint8Array.of(0xff, 0xfe),
    Uint8Array.of(0xe2, 0x82),
    new Uint8Array(100_000),
    bytes("1".repeat(2_000))
  ]
  const noNumbers = [
    "",
    " 1",
    "1 ",
    "1.5",
    "1e3",
    "0x10",
    "-2",
    "+1",
    "NaN",
    "9223372036854775808",
    "99999999999999999999"
  ].map(bytes)

  it("malformed headers are no dead letter", () => {
    const letter = received()
    for (const field of fields) {
      const isText = field === "topic" || field === "group" || field === "error"
      const bad = isText
        ? garbage
        : [...garbage, ...(field === "timestamp" ? noNumbers.filter((b) => text(b) !== "-2") : noNumbers)]
      for (const value of bad) {
        const headers = letter.headers.map((header) =>
          header[0] === `x-dead-letter-${field}` ? ([header[0], value] as const) : header
        )
        assert.isUndefined(DeadLetter.read({ ...letter, headers }), `${field} ${text(value)?.slice(0, 30)}`)
      }
    }
  })

  it.prop(
    "reads anything without throwing",
    [Schema.Array(Schema.Struct({ field: Schema.Literals(fields), value: Bytes }))],
    ([headers]) => {
      const letter = received()
      const all = [
        ...letter.headers,
        ...headers.map(({ field, value }) => [`x-dead-letter-${field}`, toBytes(value)] as const)
      ]
      DeadLetter.read({ ...letter, headers: all })
      assert.isAtMost(DeadLetter.hopsOf({ ...letter, headers: all }), 999)
    },
    { arbitrary: { runs: 300, size: 20 } }
  )
})

describe("hops", () => {
  const withHops = (...values: ReadonlyArray<string>) =>
    record({ headers: values.map((value) => ["x-dead-letter-hops", bytes(value)] as const) })

  it("a record that was never dead-lettered, or says no count, has none", () => {
    assert.strictEqual(DeadLetter.hopsOf(record()), 0)
    for (const value of ["", "-1", "1.5", "many", "1000", "99999999999999999999999", "0x1"])
      assert.strictEqual(DeadLetter.hopsOf(withHops(value)), 0, value)
    assert.strictEqual(DeadLetter.hopsOf(record({ headers: [["x-dead-letter-hops", null]] })), 0)
    assert.strictEqual(DeadLetter.hopsOf(withHops("3", "5")), 5)
  })

  it("count on over dead letter, redrive and dead letter, until the limit is met", () => {
    let current = record()
    for (let hops = 1; hops <= DeadLetter.maxHops; hops++) {
      assert.isBelow(DeadLetter.hopsOf(current), DeadLetter.maxHops)
      const letter = received({ record: current })
      assert.strictEqual(DeadLetter.hopsOf(letter), hops)
      assert.strictEqual(DeadLetter.read(letter)?.hops, hops)
      current = record({ headers: DeadLetter.restore({ topic: "orders", record: letter }).headers ?? [] })
      assert.strictEqual(DeadLetter.hopsOf(current), hops)
    }
    assert.strictEqual(DeadLetter.hopsOf(current), DeadLetter.maxHops)
  })

  it("the counter itself does not overflow into nothing", () => {
    assert.strictEqual(DeadLetter.hopsOf(received({ record: withHops("999") })), 999)
  })
})

describe("DeadLetter.restore", () => {
  it.prop(
    "gives back the record as it was, but for the hops",
    [SomeHeaders, Bytes, Bytes],
    ([headers, key, value]) => {
      const incoming = toHeaders(headers.filter(({ name }) => !isOurs(name) || name === "x-dead-letter-new"))
      const failed = record({ headers: incoming, key: toBytes(key), value: toBytes(value) })
      const restored = DeadLetter.restore({ topic: "elsewhere", record: received({ record: failed, reason: "r" }) })
      assert.strictEqual(restored.topic, "elsewhere")
      assert.isUndefined(restored.partition)
      assert.deepStrictEqual(restored.key, failed.key)
      assert.deepStrictEqual(restored.value, failed.value)
      assert.deepStrictEqual(restored.headers, [...incoming, ["x-dead-letter-hops", bytes("1")]])
    },
    { arbitrary: { runs: 200, size: 20 } }
  )

  it("passes on a record that is no dead letter as it is", () => {
    const headers = [["trace", bytes("1")]] as const
    assert.deepStrictEqual(DeadLetter.restore({ topic: "orders", record: record({ headers }) }).headers, headers)
  })
})
