/**
 * The parts of a record through schemas: a schema's encoded side says what the bytes are. A string is UTF-8, strictly, since a
 * replaced character would be another key; a `Uint8Array` is the bytes themselves; null is null.
 *
 * Parsers are made once per topic. Schema's own run synchronously where the schema does, and what is put between them here is
 * done when it is called, so that a record pays for its parsing and nothing else.
 */
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import type * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"
import { type Codec, DecodeError, EncodeError } from "../Codec.ts"
import type { Headers } from "../ConsumerRecord.ts"
import { describe } from "./issue.ts"
import { refuse } from "./options.ts"

/** What one part of a record may be on the encoded side of its schema. */
export type Wire = Uint8Array | string | null

export interface FieldSchema extends Schema.ConstraintCodec<unknown, Wire, unknown, unknown> {}

export interface HeadersSchema extends Schema.ConstraintCodec<
  unknown,
  { readonly [name: string]: Wire | undefined },
  unknown,
  unknown
> {}

type Bytes = Uint8Array | null
type Kind = "text" | "bytes"

// a byte order mark is kept: what is read and written again must be the same bytes
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
const encoder = new TextEncoder()

const textOf = (bytes: Uint8Array): string | undefined => {
  try {
    return decoder.decode(bytes)
  } catch {
    return undefined
  }
}

/** `undefined` where the text has half a surrogate pair: the encoder would send another character. */
const bytesOf = (wire: Wire): Bytes | undefined =>
  typeof wire !== "string" ? wire : wire.isWellFormed() ? encoder.encode(wire) : undefined

const kindOf = (option: string, ast: SchemaAST.AST): Kind => {
  const kinds = new Set<Kind>()
  const look = (ast: SchemaAST.AST): unknown => {
    switch (ast._tag) {
      case "String":
      case "TemplateLiteral":
        return kinds.add("text")
      case "Declaration":
        return kinds.add("bytes")
      case "Literal":
        return typeof ast.literal === "string" ? kinds.add("text") : wrong()
      case "Enum":
        return ast.enums.every(([, value]) => typeof value === "string") ? kinds.add("text") : wrong()
      case "Union":
        return ast.types.forEach(look)
      case "Suspend":
        return look(ast.thunk())
      case "Null":
      case "Undefined":
      case "Never":
        return
      default:
        return wrong()
    }
  }
  const wrong = (): never =>
    refuse(
      option,
      ast._tag,
      "a schema of a string, of a Uint8Array, or of one of them or null; Topic.json of any other"
    )
  look(ast)
  if (kinds.size > 1) wrong()
  return kinds.has("text") ? "text" : "bytes"
}

const undecodable = (topic: string, part: DecodeError["part"], why: string): DecodeError =>
  new DecodeError({ topic, part, message: `cannot decode the ${part} of a record of ${topic}: ${why}` })

const unencodable = (topic: string, part: EncodeError["part"], why: string): EncodeError =>
  new EncodeError({ topic, part, message: `cannot encode the ${part} of a record for ${topic}: ${why}` })

const notText = "expected UTF-8"
const notWellFormed = "has half a surrogate pair, which is no text"
const leftOut = "was left out, and its schema does not accept null"

/** A key or a value. */
export const field = <S extends FieldSchema>(
  topic: string,
  part: "key" | "value",
  schema: S
): Codec<S["Type"], Bytes, S["DecodingServices"], S["EncodingServices"]> => {
  const isText = kindOf(part, SchemaAST.toEncoded(schema.ast)) === "text"
  const decode = SchemaParser.decodeUnknownEffect(schema)
  const encode = SchemaParser.encodeUnknownEffect(schema)
  const onIssue = (issue: SchemaIssue.Issue): DecodeError => undecodable(topic, part, describe(issue))
  const onNull = (): DecodeError => undecodable(topic, part, "its schema does not accept null")
  const toBytes = (wire: Wire): Effect.Effect<Bytes, EncodeError> => {
    const bytes = bytesOf(wire)
    return bytes === undefined ? Effect.fail(unencodable(topic, part, notWellFormed)) : Effect.succeed(bytes)
  }
  return {
    decode: (bytes) => {
      if (bytes === null) return Effect.mapErrorEager(decode(null), onNull)
      const wire = isText ? textOf(bytes) : bytes
      if (wire === undefined) return Effect.fail(undecodable(topic, part, notText))
      return Effect.mapErrorEager(decode(wire), onIssue)
    },
    encode: (value) => {
      // a key may be left out, a value may not
      const absent = part === "key" && value === undefined
      return Effect.flatMapEager(
        Effect.mapErrorEager(encode(absent ? null : value), (issue) =>
          unencodable(topic, part, absent ? leftOut : describe(issue))
        ),
        toBytes
      )
    }
  }
}

/** Headers that a topic says nothing about. */
export const rawHeaders: Codec<Headers, Headers> = {
  decode: (headers) => Effect.succeed(headers),
  encode: (headers) => Effect.succeed(headers ?? [])
}

/** Typed headers: of the names that the schema knows the last value each; the others are passed over. */
export const headerFields = <S extends HeadersSchema>(
  topic: string,
  schema: S
): Codec<S["Type"], Headers, S["DecodingServices"], S["EncodingServices"]> => {
  const ast = SchemaAST.toEncoded(schema.ast)
  if (ast._tag !== "Objects") return refuse("headers", ast._tag, "a schema of an object of strings")
  const kinds = new Map(
    ast.propertySignatures.map(({ name, type }) => [String(name), kindOf(`headers.${String(name)}`, type)] as const)
  )
  const [others] = ast.indexSignatures.map(({ type }) => kindOf("headers", type))
  const decode = SchemaParser.decodeUnknownEffect(schema)
  const encode = SchemaParser.encodeUnknownEffect(schema)
  const onIssue = (issue: SchemaIssue.Issue): DecodeError => undecodable(topic, "headers", describe(issue))
  const toHeaders = (encoded: HeadersSchema["Encoded"]): Effect.Effect<Headers, EncodeError> => {
    const headers: Array<readonly [string, Bytes]> = []
    for (const [name, wire] of Object.entries(encoded)) {
      if (wire === undefined) continue
      const bytes = bytesOf(wire)
      if (bytes === undefined) return Effect.fail(unencodable(topic, "headers", notWellFormed))
      headers.push([name, bytes])
    }
    return Effect.succeed(headers)
  }
  return {
    decode: (headers) => {
      // a header may have any name, also __proto__
      const wires: Record<string, Wire> = Object.create(null)
      for (let i = headers.length - 1; i >= 0; i--) {
        const [name, bytes] = headers[i]!
        const kind = kinds.get(name) ?? others
        if (kind === undefined || name in wires) continue
        const wire = bytes !== null && kind === "text" ? textOf(bytes) : bytes
        if (wire === undefined) {
          return Effect.fail(undecodable(topic, "headers", `${kinds.has(name) ? name : "*"}: ${notText}`))
        }
        wires[name] = wire
      }
      return Effect.mapErrorEager(decode(wires), onIssue)
    },
    encode: (value) =>
      Effect.flatMapEager(
        Effect.mapErrorEager(encode(value === undefined ? {} : value), (issue) =>
          unencodable(topic, "headers", describe(issue))
        ),
        toHeaders
      )
  }
}
