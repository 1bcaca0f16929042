/** The W3C trace context of a record: read strictly, never by a throw, and written so that it is read back. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Tracer from "effect/Tracer"
import type { Headers } from "../src/ConsumerRecord.ts"
import { carriesContext, headersOf, parseParent, readContext, spanOf } from "../src/internal/traceContext.ts"

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const headers = (...all: ReadonlyArray<readonly [string, string | null]>): Headers =>
  all.map(([name, value]) => [name, value === null ? null : bytes(value)] as const)

const traceId = "4bf92f3577b34da6a3ce929d0e0e4736"
const spanId = "00f067aa0ba902b7"
const valid = `00-${traceId}-${spanId}-01`

const child = (
  parent: Tracer.AnySpan | undefined,
  ids: Partial<Pick<Tracer.NativeSpan, "_traceId" | "_spanId">> = {}
) =>
  Object.assign(
    new Tracer.NativeSpan({
      name: "one",
      parent: Option.fromUndefinedOr(parent),
      annotations: Context.empty(),
      links: [],
      startTime: 0n,
      kind: "internal",
      sampled: parent?.sampled ?? true
    }),
    ids
  )

const written = (all: Headers): ReadonlyArray<readonly [string, string]> =>
  all.map(([name, value]) => [name, new TextDecoder().decode(value!)] as const)

describe("traceparent", () => {
  it("is read: trace, span, and whether it is sampled", () => {
    assert.deepStrictEqual(readContext(headers(["a", "b"], ["traceparent", valid])), {
      traceId,
      spanId,
      sampled: true,
      state: undefined
    })
    for (const [flags, sampled] of [
      ["00", false],
      ["01", true],
      ["02", false],
      ["03", true],
      ["fe", false],
      ["ff", true]
    ] as const) {
      assert.strictEqual(parseParent(`00-${traceId}-${spanId}-${flags}`)?.sampled, sampled, flags)
    }
  })

  it("of a later version is read as far as this one knows it", () => {
    for (const value of [
      `01-${traceId}-${spanId}-01`,
      `cc-${traceId}-${spanId}-01-what-comes`,
      `fe${valid.slice(2)}-`
    ]) {
      assert.strictEqual(parseParent(value)?.spanId, spanId, value)
    }
  })

  it("that is not valid is not there", () => {
    const invalid: ReadonlyArray<string> = [
      "",
      "-",
      `ff-${traceId}-${spanId}-01`,
      `00-${"0".repeat(32)}-${spanId}-01`,
      `00-${traceId}-${"0".repeat(16)}-01`,
      `00-${traceId.toUpperCase()}-${spanId}-01`,
      `00-${traceId}-${spanId.toUpperCase()}-01`,
      `00-${traceId.slice(1)}-${spanId}-01`,
      `00-${traceId}0-${spanId}-01`,
      `00-${traceId}-${spanId}0-01`,
      `00-${traceId}-${spanId}-1`,
      `00-${traceId}-${spanId}-0g`,
      `00-${traceId}-${spanId}`,
      `${valid}-`,
      `${valid}-extra`,
      `${valid}0`,
      `01-${traceId}-${spanId}-011`,
      `0-${traceId}-${spanId}-01`,
      `0g-${traceId}-${spanId}-01`,
      `00_${traceId}_${spanId}_01`,
      ` ${valid}`,
      `${valid} `,
      `${valid}\n`,
      `${valid},${valid}`,
      valid.replace("4b", "\u0664b")
    ]
    for (const value of invalid) {
      assert.isUndefined(parseParent(value), JSON.stringify(value))
      assert.isUndefined(readContext(headers(["traceparent", value], ["tracestate", "a=1"])), JSON.stringify(value))
    }
    assert.isUndefined(readContext(headers(["traceparent", null])))
    assert.isUndefined(readContext([["traceparent", new Uint8Array(55).fill(0xff)]]))
    assert.isUndefined(readContext(headers(["traceparent", `cc${valid.slice(2)}-${"x".repeat(2_000)}`])))
    assert.isUndefined(readContext([]))
  })

  it("that a record has twice is nobody's, even where both are the same", () => {
    assert.isUndefined(readContext(headers(["traceparent", valid], ["traceparent", valid])))
    assert.isUndefined(readContext(headers(["traceparent", valid], ["TraceParent", "x"])))
    assert.isUndefined(readContext(headers(["traceparent", null], ["traceparent", valid])))
  })

  it("is found in any case, and is there for those who ask whether a record has one, valid or not", () => {
    assert.strictEqual(readContext(headers(["TraceParent", valid]))?.traceId, traceId)
    for (const all of [
      headers(["traceparent", valid]),
      headers(["Traceparent", "x"]),
      headers(["traceparent", null])
    ]) {
      assert.isTrue(carriesContext(all))
    }
    for (const all of [undefined, [], headers(["tracestate", "a=1"]), headers(["traceparent2", valid])]) {
      assert.isFalse(carriesContext(all))
    }
  })
})

describe("tracestate", () => {
  const state = (...values: ReadonlyArray<string | null>) =>
    readContext(headers(["traceparent", valid], ...values.map((value) => ["tracestate", value] as const)))?.state

  it("is all headers of the name, in order, without what means nothing", () => {
    assert.strictEqual(state("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"), "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
    assert.strictEqual(state("a=1 , b=2\t,", "", "c@d=3"), "a=1,b=2,c@d=3")
    assert.isUndefined(state())
    assert.isUndefined(state(" , "))
    assert.strictEqual(state(`a=${"x".repeat(255)}`)?.length, 257)
  })

  it("that is not valid is left out whole, and the rest stays", () => {
    const invalid: ReadonlyArray<string | null> = [
      null,
      "a",
      "=1",
      "a=",
      "A=1",
      "a=1,a=2",
      "a=1;b=2=3",
      "a=\u00e4",
      "a=1\n",
      "a b=1",
      `${"a".repeat(257)}=1`,
      `a=${"x".repeat(257)}`,
      Array.from({ length: 33 }, (_, i) => `k${i}=1`).join(","),
      Array.from({ length: 20 }, (_, i) => `k${i}=${"x".repeat(30)}`).join(",")
    ]
    for (const value of invalid) {
      assert.isUndefined(state(value), String(value))
      assert.isUndefined(state("z=9", value), String(value))
      assert.strictEqual(readContext(headers(["traceparent", valid], ["tracestate", value]))?.spanId, spanId)
    }
    assert.isUndefined(state("a=1", "a=1"), "a key twice, in two headers")
  })
})

describe("what is written", () => {
  it("is the span, and the state of the trace that it continues", () => {
    const remote = spanOf({ traceId, spanId, sampled: true, state: "a=1,b=2" })
    const below = child(child(remote), { _spanId: "00000000000000ab" })
    assert.deepStrictEqual(written(headersOf(below)), [
      ["traceparent", `00-${traceId}-00000000000000ab-01`],
      ["tracestate", "a=1,b=2"]
    ])
    below.end(0n, Exit.void)
    assert.lengthOf(headersOf(below), 2, "an ended span can be a parent")
    const unsampled = child(spanOf({ traceId, spanId, sampled: false, state: undefined }), { _spanId: "ab".repeat(8) })
    assert.deepStrictEqual(written(headersOf(unsampled)), [["traceparent", `00-${traceId}-${"ab".repeat(8)}-00`]])
  })

  it("is padded where a tracer's ids are of 64 bits, and nothing where they are none", () => {
    assert.deepStrictEqual(
      written(headersOf(child(undefined, { _traceId: "ab".repeat(8), _spanId: "cd".repeat(8) }))),
      [["traceparent", `00-${"0".repeat(16)}${"ab".repeat(8)}-${"cd".repeat(8)}-01`]]
    )
    for (const ids of [{ _traceId: "noop" }, { _spanId: "noop" }, { _traceId: "0".repeat(32) }, { _spanId: "" }]) {
      assert.deepStrictEqual(headersOf(child(undefined, ids)), [])
    }
  })

  it("has no state of another trace", () => {
    const remote = spanOf({ traceId, spanId, sampled: true, state: "a=1" })
    assert.lengthOf(headersOf(child(remote, { _traceId: "ab".repeat(16) })), 1)
  })
})

const Hex = (digits: number) => Schema.String.check(Schema.isPattern(new RegExp(`^[0-9a-f]{${digits}}$`)))

describe("over all inputs", () => {
  it.prop(
    "nothing throws, and what is read is what the form allows",
    [
      Schema.Array(
        Schema.Struct({
          name: Schema.Literals(["traceparent", "tracestate", "Traceparent", "other"]),
          value: Schema.NullOr(Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 }))))
        })
      ).check(Schema.isMaxLength(4))
    ],
    ([all]) => {
      const read = readContext(
        all.map(({ name, value }) => [name, value === null ? null : Uint8Array.from(value)] as const)
      )
      if (read === undefined) return
      assert.match(read.traceId, /^[0-9a-f]{32}$/)
      assert.match(read.spanId, /^[0-9a-f]{16}$/)
    },
    { arbitrary: { runs: 300, size: 60 } }
  )

  it.prop(
    "one changed character of a valid one makes it invalid, or another valid one of the same form",
    [
      Hex(32),
      Hex(16),
      Hex(2),
      Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 54 })),
      Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0x17f }))
    ],
    ([trace, span, flags, at, code]) => {
      const value = `00-${trace}-${span}-${flags}`
      const changed = value.slice(0, at) + String.fromCharCode(code) + value.slice(at + 1)
      const read = parseParent(changed)
      const form = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/
      assert.strictEqual(read !== undefined, form.test(changed), changed)
    },
    { arbitrary: { runs: 500 } }
  )

  it.prop(
    "what is written is read back as it was",
    [Hex(32), Hex(16), Schema.Boolean],
    ([trace, span, sampled]) => {
      const made = child(spanOf({ traceId: trace, spanId: span, sampled, state: "k=v" }), { _spanId: span })
      const read = readContext(headersOf(made))
      const isId = !/^0+$/.test(trace) && !/^0+$/.test(span)
      assert.deepStrictEqual(read, isId ? { traceId: trace, spanId: span, sampled, state: "k=v" } : undefined)
    },
    { arbitrary: { runs: 300 } }
  )
})
