import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"
import { inspect } from "node:util"
import { DecodeError, EncodeError } from "../src/Codec.ts"
import type { Headers } from "../src/ConsumerRecord.ts"
import { describe as describeIssue } from "../src/internal/issue.ts"
import { InvalidOptions } from "../src/InvalidOptions.ts"
import { type Message, Topic } from "../src/Topic.ts"
import { delivery, header } from "./delivery.ts"

class Order extends Schema.Class<Order>("Order")({ id: Schema.String, amount: Schema.Number }) {}

const utf8 = (text: string) => new TextEncoder().encode(text)
const text = (bytes: Uint8Array | null) => (bytes === null ? bytes : new TextDecoder().decode(bytes))
/** not the beginning of any character */
const notUtf8 = Uint8Array.of(0x61, 0xff, 0x62)

const Orders = Topic.make("orders", { key: Schema.String, value: Topic.json(Order) })
const Traced = Topic.make("traced", {
  key: Schema.NullOr(Schema.String),
  value: Schema.NullOr(Topic.json(Order)),
  headers: Schema.Struct({ tenant: Schema.String, "x-trace": Schema.optionalKey(Schema.NullOr(Schema.Uint8Array)) })
})

const failed = <A>(effect: Effect.Effect<A, DecodeError | EncodeError>): DecodeError | EncodeError =>
  Effect.runSync(Effect.flip(effect))

describe("a topic's schemas", () => {
  it("read and write text as UTF-8, JSON, and bytes as they are", () => {
    const topic = Topic.make("t", { key: Schema.NumberFromString, value: Schema.Uint8Array })
    const record = Effect.runSync(Topic.encode(topic, notUtf8, { key: 12 }))
    assert.deepStrictEqual(record, { topic: "t", key: utf8("12"), value: notUtf8, headers: [] })
    assert.deepStrictEqual(Effect.runSync(Topic.decode(topic, record)), { key: 12, value: notUtf8, headers: [] })

    const order = new Order({ id: "\u00e9\ud83d\ude00", amount: 2.5 })
    const json = Effect.runSync(Topic.encode(Orders, order, { key: "k\u00e9" }))
    assert.strictEqual(text(json.value), '{"id":"\u00e9\ud83d\ude00","amount":2.5}')
    const back = Effect.runSync(Topic.decode(Orders, json))
    assert.deepStrictEqual(back.value, order)
    assert.instanceOf(back.value, Order)
    assert.strictEqual(back.key, "k\u00e9")
  })

  it.effect.prop(
    "read what they have written, whatever text, numbers and headers it is",
    [
      Schema.NullOr(Schema.String),
      Schema.NullOr(Schema.Struct({ id: Schema.String, amount: Schema.Finite })),
      Schema.String,
      Schema.NullOr(Schema.Uint8Array)
    ],
    ([key, value, tenant, trace]) =>
      Effect.gen(function* () {
        const topic = Topic.make("t", {
          key: Schema.NullOr(Schema.String),
          value: Schema.NullOr(Topic.json(Schema.Struct({ id: Schema.String, amount: Schema.Finite }))),
          headers: Schema.Struct({ tenant: Schema.String, trace: Schema.NullOr(Schema.Uint8Array) })
        })
        const headers = { tenant, trace }
        const exit = yield* Effect.exit(Topic.encode(topic, value, { key, headers }))
        if (Exit.isFailure(exit)) {
          // JSON escapes half a surrogate pair, plain text cannot
          assert.isFalse((key ?? "").isWellFormed() && tenant.isWellFormed())
          return
        }
        assert.isTrue((key ?? "").isWellFormed() && tenant.isWellFormed())
        const decoded = yield* Topic.decode(topic, exit.value)
        assert.deepStrictEqual(decoded.headers, headers)
        assert.strictEqual(decoded.key, key)
        // JSON has one zero only
        assert.strictEqual(JSON.stringify(decoded.value), JSON.stringify(value))
      }),
    { arbitrary: { runs: 200 } }
  )

  it("refuse bytes that are not UTF-8 instead of replacing characters", () => {
    for (const [part, record] of [
      ["key", { key: notUtf8, value: utf8('{"id":"1","amount":2}') }],
      ["value", { key: utf8("k"), value: notUtf8 }]
    ] as const) {
      const error = failed(Topic.decode(Orders, record))
      assert.instanceOf(error, DecodeError)
      assert.deepStrictEqual([error.topic, error.part], ["orders", part])
      assert.include(error.message, "expected UTF-8")
    }
    const error = failed(Topic.decode(Traced, { value: null, headers: [["tenant", notUtf8]] }))
    assert.strictEqual(error.part, "headers")
    assert.include(error.message, "tenant: expected UTF-8")
  })

  it("keep a byte order mark in text, and pass over one before JSON", () => {
    const marked = utf8('\ufeff{"id":"1","amount":2}')
    const { key, value } = Effect.runSync(Topic.decode(Orders, { key: utf8("\ufeffk"), value: marked }))
    assert.strictEqual(key, "\ufeffk")
    assert.deepStrictEqual(value, new Order({ id: "1", amount: 2 }))
  })

  it("are given null for a null key and a tombstone, and answer DecodeError where they do not accept it", () => {
    assert.deepStrictEqual(Effect.runSync(Topic.decode(Traced, { value: null, headers: [header("tenant", "a")] })), {
      key: null,
      value: null,
      headers: { tenant: "a" }
    })
    const key = failed(Topic.decode(Orders, { key: null, value: utf8('{"id":"1","amount":2}') }))
    assert.strictEqual(key.message, "cannot decode the key of a record of orders: its schema does not accept null")
    const value = failed(Topic.decode(Orders, { key: utf8("k"), value: null }))
    assert.strictEqual(value.message, "cannot decode the value of a record of orders: its schema does not accept null")
    // the JSON text null is another thing than a tombstone
    const Nullable = Topic.make("t", { key: Schema.Null, value: Topic.json(Schema.NullOr(Order)) })
    assert.isNull(Effect.runSync(Topic.decode(Nullable, { value: utf8("null") })).value)
    assert.strictEqual(failed(Topic.decode(Nullable, { value: null })).part, "value")
    assert.strictEqual(text(Effect.runSync(Topic.encode(Nullable, null)).value), "null")
    assert.isNull(Effect.runSync(Topic.encode(Traced, null, { headers: { tenant: "a" } })).value)
  })

  it("read of each header name the last value, of any order, and pass over names they do not have", () => {
    const headers: Headers = [
      header("tenant", "first"),
      ["x-trace", Uint8Array.of(0xff)],
      ["other", notUtf8],
      header("x-trace", null),
      header("tenant", "last"),
      header("__proto__", "p")
    ]
    assert.deepStrictEqual(Effect.runSync(Topic.decode(Traced, { value: null, headers })).headers, {
      tenant: "last",
      "x-trace": null
    })
    const Any = Topic.make("t", {
      key: Schema.Null,
      value: Schema.Null,
      headers: Schema.Record(Schema.String, Schema.NullOr(Schema.String))
    })
    const all = headers.filter(([name]) => name !== "other" && name !== "__proto__")
    assert.deepStrictEqual(Effect.runSync(Topic.decode(Any, { value: null, headers: all.slice(2) })).headers, {
      tenant: "last",
      "x-trace": null
    })
    assert.strictEqual(failed(Topic.decode(Any, { value: null, headers })).part, "headers")
    // names that every object has by birth
    const native = [header("constructor", "c"), header("toString", "s"), header("__proto__", "p")]
    const born = Effect.runSync(Topic.decode(Any, { value: null, headers: native })).headers
    assert.deepStrictEqual(Object.entries(born), [
      ["__proto__", "p"],
      ["toString", "s"],
      ["constructor", "c"]
    ])
  })

  it("write typed headers in the order of their names, leaving out what is left out", () => {
    const encode = (headers: { readonly tenant: string; readonly "x-trace"?: Uint8Array | null }) =>
      Effect.runSync(Topic.encode(Traced, null, { headers })).headers
    assert.deepStrictEqual(encode({ tenant: "a" }), [header("tenant", "a")])
    assert.deepStrictEqual(encode({ "x-trace": null, tenant: "a" }), [header("tenant", "a"), ["x-trace", null]])
    const Optional = Topic.make("t", {
      key: Schema.Null,
      value: Schema.Null,
      headers: Schema.Struct({ a: Schema.optional(Schema.String), b: Schema.optional(Schema.String) })
    })
    const optional = (headers?: { readonly a?: string | undefined; readonly b?: string | undefined }) =>
      Effect.runSync(Topic.encode(Optional, null, { headers })).headers
    assert.deepStrictEqual(optional({ a: undefined, b: "b" }), [header("b", "b")])
    assert.deepStrictEqual(optional(), [])
    assert.include(failed(Topic.encode(Traced, null)).message, "tenant: is missing")
    const raw = Effect.runSync(
      Topic.encode(Orders, new Order({ id: "1", amount: 2 }), { key: "k", headers: [header("a", "b")] })
    )
    assert.deepStrictEqual(raw.headers, [header("a", "b")])
  })

  it("write no record that they could not read", () => {
    const order = new Order({ id: "1", amount: 2 })
    const key = failed(Topic.encode(Orders, order))
    assert.instanceOf(key, EncodeError)
    assert.strictEqual(
      key.message,
      "cannot encode the key of a record for orders: was left out, and its schema does not accept null"
    )
    assert.include(failed(Topic.encode(Orders, order, { key: "\ud800" })).message, "half a surrogate pair")
    assert.include(
      failed(Topic.encode(Traced, null, { headers: { tenant: "\udc00" } })).message,
      "half a surrogate pair"
    )
    const Loose = Topic.make("t", { key: Schema.Null, value: Topic.json(Schema.Unknown) })
    const cycle: { self?: unknown } = {}
    cycle.self = cycle
    for (const value of [undefined, 5n, cycle]) {
      assert.strictEqual(
        failed(Topic.encode(Loose, value)).message,
        "cannot encode the value of a record for t: expected JSON"
      )
    }
  })

  it("run once when they are called where they need nothing, and as an effect where they do", () => {
    const Lookup = Context.Service<{ readonly name: (id: string) => Effect.Effect<string> }>("test/Lookup")
    const named = Schema.String.pipe(
      Schema.decodeTo(Schema.String, {
        decode: SchemaGetter.transformEffect((id: string) => Effect.flatMap(Lookup, (lookup) => lookup.name(id))),
        encode: SchemaGetter.passthrough()
      })
    )
    const topic = Topic.make("t", { key: named, value: Schema.String })
    const effect = Topic.decode(topic, { key: utf8("1"), value: utf8("v") })
    assert.isFalse(Exit.isExit(effect))
    const lookup = { name: (id: string) => Effect.as(Effect.yieldNow, `name of ${id}`) }
    assert.isTrue(Exit.isExit(Topic.decode(Orders, { key: utf8("k"), value: utf8('{"id":"1","amount":2}') })))
    return Effect.runPromise(
      Effect.map(Effect.provideService(effect, Lookup, lookup), (decoded) =>
        assert.strictEqual(decoded.key, "name of 1")
      )
    )
  })

  it("are refused when their encoded side is neither text nor bytes", () => {
    const refused = (f: () => unknown): InvalidOptions => {
      try {
        f()
      } catch (error) {
        if (error instanceof InvalidOptions) return error
        throw error
      }
      return assert.fail("was accepted")
    }
    const fields = { key: Schema.String, value: Schema.String }
    assert.strictEqual(refused(() => Topic.make("a b", fields)).option, "topic")
    for (const wrong of [
      Schema.Number,
      Schema.Struct({ a: Schema.String }),
      Schema.Union([Schema.String, Schema.Uint8Array]),
      Schema.Literal(5),
      Schema.Enum({ A: 1 })
    ]) {
      // @ts-expect-error none of them is text, or bytes
      assert.strictEqual(refused(() => Topic.make("t", { ...fields, value: wrong })).option, "value")
    }
    // @ts-expect-error a number is no text
    assert.strictEqual(refused(() => Topic.make("t", { ...fields, key: Schema.Number })).option, "key")
    assert.strictEqual(
      // @ts-expect-error a header is text or bytes
      refused(() => Topic.make("t", { ...fields, headers: Schema.Struct({ n: Schema.Number }) })).option,
      "headers.n"
    )
    // @ts-expect-error headers have names
    assert.strictEqual(refused(() => Topic.make("t", { ...fields, headers: Schema.String })).option, "headers")
    for (const right of [
      Schema.Literals(["a", "b"]),
      Schema.TemplateLiteral(["id-", Schema.Number]),
      Schema.suspend(() => Topic.json(Order)),
      Schema.Enum({ A: "a" }),
      Schema.NonEmptyString
    ]) {
      assert.strictEqual(Topic.make("t", { ...fields, value: right }).name, "t")
    }
  })
})

describe("a handler of a topic", () => {
  const record = (parts: Parameters<typeof delivery>[0] = {}) =>
    delivery({ topic: "orders", key: "k", value: '{"id":"1","amount":2}', attempt: 2, ...parts })

  it.effect("is given the value and a message, which is the delivery with what was decoded", () =>
    Effect.gen(function* () {
      let seen: [Order, Message<string, Order, Headers>] | undefined
      const handler = Topic.handler(
        Orders,
        Effect.fnUntraced(function* (order, message) {
          seen = [order, message]
          yield* message.ack
        })
      )
      assert.deepStrictEqual(handler.topics, ["orders"])
      const given = record({ headers: [header("a", "b")] })
      yield* Effect.scoped(handler.handle(given))
      const [order, message] = seen!
      assert.deepStrictEqual(order, new Order({ id: "1", amount: 2 }))
      assert.strictEqual(message.decodedValue, order)
      assert.strictEqual(message.decodedKey, "k")
      assert.deepStrictEqual(message.decodedHeaders, [header("a", "b")])
      assert.strictEqual(given.acks, 1)
      for (const name of [
        "topic",
        "partition",
        "offset",
        "timestamp",
        "key",
        "value",
        "headers",
        "attempt",
        "groupId",
        "epoch",
        "generation"
      ] as const) {
        assert.deepStrictEqual(message[name], given[name], name)
      }
    })
  )

  it.effect("is not called for a record that cannot be decoded", () =>
    Effect.gen(function* () {
      let calls = 0
      const handler = Topic.handler(Orders, () => Effect.sync(() => calls++))
      const error = yield* Effect.flip(Effect.scoped(handler.handle(record({ value: '{"id":"1"}' }))))
      assert.strictEqual(error.message, "cannot decode the value of a record of orders: amount: is missing")
      assert.strictEqual(calls, 0)
    })
  )

  it.effect("prints of its message where it is, and nothing of its content", () =>
    Effect.gen(function* () {
      let printed = ""
      const handler = Topic.handler(Orders, (_, message) =>
        Effect.sync(() => {
          printed = inspect(message) + JSON.stringify({ message })
        })
      )
      const secret = { key: "key-Zx9", value: '{"id":"value-Zx9","amount":2}', headers: [header("h", "header-Zx9")] }
      yield* Effect.scoped(handler.handle(record(secret)))
      assert.include(printed, "orders")
      assert.include(printed, "42")
      assert.notInclude(printed, "Zx9")
    })
  )
})

describe("an error", () => {
  const marker = "Zx9Secret"
  const getter = Schema.String.pipe(
    Schema.decodeTo(Schema.String, {
      decode: SchemaGetter.transformEffect((s: string) =>
        Effect.fail(new SchemaIssue.InvalidValue({ message: `bad: ${s}`, expected: `not ${s}` }, s))
      ),
      encode: SchemaGetter.transformEffect((s: string) =>
        Effect.fail(new SchemaIssue.Forbidden({ message: `no ${s}` }))
      )
    })
  )
  const quoting = Schema.String.check(Schema.makeFilter((s: string) => `${s} is not welcome`))
  const pointing = Schema.Struct({ a: Schema.String }).check(
    Schema.makeFilter(({ a }: { readonly a: string }) => ({ path: [a], issue: `${a} is not welcome` }))
  )
  const value = (schema: Schema.ConstraintCodec<unknown, unknown>) =>
    Topic.make("t", { key: Schema.Null, value: Topic.json(schema) })

  const decoding: ReadonlyArray<
    readonly [what: string, schema: Schema.ConstraintCodec<unknown, unknown>, json: unknown, message: string]
  > = [
    ["a wrong type", Schema.Number, marker, "expected number"],
    [
      "a wrong type deep inside",
      Schema.Struct({ items: Schema.Array(Order) }),
      { items: [{ id: marker, amount: marker }] },
      "items[0].amount: expected number"
    ],
    [
      "a key of a map",
      Schema.Struct({ m: Schema.Record(Schema.String, Schema.Number) }),
      { m: { [marker]: 1, b: marker } },
      "m.*: expected number"
    ],
    ["a union", Schema.Union([Schema.Literals(["a", "b"]), Schema.Number]), marker, 'expected "a" | "b"'],
    ["a check", Schema.String.check(Schema.isMaxLength(3)), marker, "expected a value with a length of at most 3"],
    ["a check that quotes", quoting, marker, "does not pass a check of its schema"],
    ["a check that points", pointing, { a: marker }, "*: does not pass a check of its schema"],
    ["a transformation that quotes", getter, marker, "expected string"],
    [
      "a tagged union",
      Schema.Union([Schema.TaggedStruct("A", { a: Schema.Number }), Schema.TaggedStruct("B", { b: Schema.Number })]),
      { _tag: "A", a: marker },
      "a: expected number"
    ]
  ]

  const tellsNothing = (error: DecodeError | EncodeError): void => {
    const said = [
      String(error),
      error.message,
      error.stack ?? "",
      JSON.stringify(error),
      inspect(error, { depth: 20, showHidden: true }),
      Cause.pretty(Cause.fail(error)),
      JSON.stringify(Schema.encodeUnknownSync(error._tag === "DecodeError" ? DecodeError : EncodeError)(error)),
      inspect(Exit.fail(error), { depth: 20 })
    ]
    for (const text of said) assert.notInclude(text, marker)
    assert.include(said[0]!, error.message)
  }

  for (const [what, schema, json, message] of decoding) {
    it(`tells nothing of the record: ${what}`, () => {
      const error = failed(Topic.decode(value(schema), { value: utf8(JSON.stringify(json)) }))
      tellsNothing(error)
      assert.strictEqual(error.message, `cannot decode the value of a record of t: ${message}`)
    })
  }

  it("tells nothing of the record: text that is no JSON, bytes that are no text, a header", () => {
    const noJson = failed(Topic.decode(value(Schema.Unknown), { value: utf8(`{"${marker}": ${marker}}`) }))
    tellsNothing(noJson)
    assert.strictEqual(noJson.message, "cannot decode the value of a record of t: expected JSON")
    tellsNothing(failed(Topic.decode(value(Schema.Unknown), { value: Uint8Array.of(...utf8(marker), 0xff) })))
    const headers = Schema.Record(Schema.String, Schema.Literal("x"))
    const Any = Topic.make("t", { key: Schema.Null, value: Schema.Null, headers })
    tellsNothing(failed(Topic.decode(Any, { value: null, headers: [header(marker, marker)] })))
    const invalid = failed(Topic.decode(Any, { value: null, headers: [[marker, Uint8Array.of(0xff)]] }))
    tellsNothing(invalid)
    assert.include(invalid.message, "*: expected UTF-8")
  })

  it("tells nothing of a value that cannot be sent", () => {
    const topic = Topic.make("t", { key: quoting, value: Topic.json(Schema.Struct({ a: getter })) })
    const key = failed(Topic.encode(topic, { a: "" }, { key: marker }))
    tellsNothing(key)
    assert.instanceOf(key, EncodeError)
    const Sent = Topic.make("t", { key: Schema.Null, value: Topic.json(Schema.Struct({ a: getter })) })
    const sent = failed(Topic.encode(Sent, { a: marker }))
    tellsNothing(sent)
    assert.strictEqual(sent.message, "cannot encode the value of a record for t: a: is forbidden by its schema")
  })

  it("names three faults at most, is cut to 500 characters, and has nothing of an input that is reported", () => {
    const said = (names: ReadonlyArray<string>, data: unknown): string => {
      const schema = Schema.Struct(Object.fromEntries(names.map((name) => [name, Schema.Number])))
      const options = { errors: "all", onExcessProperty: "error", reportInput: true } as const
      return describeIssue(Effect.runSync(Effect.flip(SchemaParser.decodeUnknownEffect(schema, options)(data))))
    }
    assert.strictEqual(said(["a", "b", "c"], { a: 1 }), "b: is missing; c: is missing")
    assert.strictEqual(
      said(["a", "b", "c", "d"], { a: marker, [marker]: 1 }),
      "*: is not in the schema; a: expected number; b: is missing; and more"
    )
    const long = said(["n".repeat(300), "m".repeat(300)], {})
    assert.strictEqual(long.length, 503)
    assert.isTrue(long.endsWith("mmm..."))
  })

  it("is none where all is well, also for values that look like nothing", () => {
    const topic = Topic.make("t", { key: Schema.OptionFromNullOr(Schema.String), value: Schema.String })
    const decoded = Effect.runSync(Topic.decode(topic, { key: null, value: new Uint8Array(0) }))
    assert.deepStrictEqual(decoded, { key: Option.none(), value: "", headers: [] })
  })
})
