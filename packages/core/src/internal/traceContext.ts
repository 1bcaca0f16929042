/**
 * The W3C trace context in a record's headers: read strictly, because a header is anybody's input, and written.
 *
 * Invariants, with their tests in `test/traceContext.test.ts`:
 * - what is not valid is not there: nothing throws, and no part of it goes on;
 * - what is written is read back as it was.
 *
 * **Source**: W3C Trace Context, level 1 (`traceparent`, sections 3.2 and 4.3) and level 2 (keys of `tracestate`, section 3.3).
 */
import * as Context from "effect/Context"
import * as Tracer from "effect/Tracer"
import type { Headers } from "../ConsumerRecord.ts"

/** What a producer has said of the span that sent a record. */
export interface TraceContext {
  readonly traceId: string
  readonly spanId: string
  readonly sampled: boolean
  /** `tracestate`, all of it in one */
  readonly state: string | undefined
}

const parentName = "traceparent"
const stateName = "tracestate"

/** version, trace id, span id, flags: all that version 00 has, and what each later one begins with */
const parentLength = 55
const parentForm = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/
const noTrace = "0".repeat(32)
const noSpan = "0".repeat(16)
const forbiddenVersion = "ff"
const sampledFlag = 1

/** of one record: bytes that a later version may have are not looked at, and somebody's megabyte is not read at all */
const longestParent = 1024
/** what has to be passed on at least; nobody gets more */
const longestState = 512
const mostMembers = 32
const memberForm =
  /^([a-z0-9][a-z0-9_\-*/@]{0,255})=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])$/

/** names of headers may be written in any case, and are looked at for each record: the length first */
const isNamed = (name: string, wanted: string): boolean =>
  name.length === wanted.length && (name === wanted || name.toLowerCase() === wanted)

// a character a byte: what is no ASCII is none of the forms either
const decoder = new TextDecoder("latin1")

const text = (bytes: Uint8Array | null, longest: number): string | undefined =>
  bytes === null || bytes.byteLength > longest ? undefined : decoder.decode(bytes)

export const carriesContext = (headers: Headers | undefined): boolean =>
  headers !== undefined && headers.some(([name]) => isNamed(name, parentName))

/** Of a record with two of them nobody knows whose they are, so it has none. */
export const readContext = (headers: Headers): TraceContext | undefined => {
  let parent: Uint8Array | null | undefined
  for (const [name, value] of headers) {
    if (!isNamed(name, parentName)) continue
    if (parent !== undefined) return undefined
    parent = value
  }
  if (parent === undefined) return undefined
  const read = parseParent(text(parent, longestParent) ?? "")
  return read === undefined ? undefined : { ...read, state: readState(headers) }
}

export const parseParent = (value: string): Omit<TraceContext, "state"> | undefined => {
  const parts = parentForm.exec(value.slice(0, parentLength))
  if (parts === null) return undefined
  const [, version = "", traceId = "", spanId = "", flags = ""] = parts
  if (version === forbiddenVersion || traceId === noTrace || spanId === noSpan) return undefined
  if (value.length > parentLength && (version === "00" || value[parentLength] !== "-")) return undefined
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & sampledFlag) !== 0 }
}

/** All headers of the name together, as if they were one with commas between them; as a whole or not at all. */
const readState = (headers: Headers): string | undefined => {
  const members: Array<string> = []
  const keys = new Set<string>()
  let length = 0
  for (const [name, value] of headers) {
    if (!isNamed(name, stateName)) continue
    const all = text(value, longestState)
    if (all === undefined) return undefined
    for (const part of all.split(",")) {
      const member = part.replace(/^[ \t]+|[ \t]+$/g, "")
      // an empty one is allowed, and means nothing
      if (member === "") continue
      const key = memberForm.exec(member)?.[1]
      if (key === undefined || keys.has(key)) return undefined
      keys.add(key)
      length += member.length + 1
      if (members.push(member) > mostMembers || length > longestState + 1) return undefined
    }
  }
  return members.length === 0 ? undefined : members.join(",")
}

/** `tracestate` travels with the span that it came with. */
const TraceState = Context.Reference<string | undefined>("@concurrent-kafka/core/TraceState", {
  defaultValue: () => undefined
})

export const spanOf = ({ sampled, spanId, state, traceId }: TraceContext): Tracer.ExternalSpan =>
  Tracer.externalSpan({
    traceId,
    spanId,
    sampled,
    annotations: state === undefined ? Context.empty() : Context.make(TraceState, state)
  })

/** That of the remote span whose trace this one continues. */
const stateOf = (span: Tracer.Span): string | undefined => {
  let above: Tracer.AnySpan | undefined = span
  while (above !== undefined && above._tag === "Span") {
    above = above.parent._tag === "Some" ? above.parent.value : undefined
  }
  return above === undefined || above.traceId !== span.traceId ? undefined : Context.get(above.annotations, TraceState)
}

const encoder = new TextEncoder()

/** The headers that say who sent it; none of a span that was not made, or whose ids are no W3C ids. */
export const headersOf = (span: Tracer.Span): Headers => {
  const parent = `00-${span.traceId.padStart(32, "0")}-${span.spanId.padStart(16, "0")}-${span.sampled ? "01" : "00"}`
  if (parseParent(parent) === undefined) return []
  const state = stateOf(span)
  return [
    [parentName, encoder.encode(parent)],
    ...(state === undefined ? [] : [[stateName, encoder.encode(state)] as const])
  ]
}
