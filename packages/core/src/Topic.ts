/**
 * Topics whose records have types.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as SchemaIssue from "effect/SchemaIssue"
import type * as Scope from "effect/Scope"
import type { Codec, DecodeError, EncodeError } from "./Codec.ts"
import type { Delivery, Headers } from "./ConsumerRecord.ts"
import type { Directive } from "./Directive.ts"
import { Handler } from "./Handler.ts"
import { field, type FieldSchema, headerFields, type HeadersSchema, rawHeaders } from "./internal/fields.ts"
import { notJson } from "./internal/issue.ts"
import { DecodedMessage } from "./internal/message.ts"
import { topicNames } from "./internal/options.ts"
import type { ProducerRecord } from "./KafkaProducer.ts"

/**
 * A topic and what its records are: `K`, `V` and `H` of key, value and headers, `RD` what decoding needs, `RE` what encoding needs.
 *
 * @since 0.1.0
 * @category models
 */
export interface Topic<in out K, in out V, in out H = Headers, out RD = never, out RE = never> {
  readonly name: string
  readonly key: Codec<K, Uint8Array | null, RD, RE>
  readonly value: Codec<V, Uint8Array | null, RD, RE>
  readonly headers: Codec<H, Headers, RD, RE>
}

/**
 * @since 0.1.0
 */
export declare namespace Topic {
  /**
   * A schema of a key or a value. Its encoded side says what the bytes are: a string is UTF-8, a `Uint8Array` the bytes
   * themselves, null a null key or a tombstone.
   *
   * @since 0.1.0
   * @category models
   */
  export type Field = FieldSchema
  /**
   * A schema of headers, as an object of strings by header name.
   *
   * @since 0.1.0
   * @category models
   */
  export type Fields = HeadersSchema
  /**
   * What `Topic.decode` gives.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Decoded<out K, out V, out H> {
    readonly key: K
    readonly value: V
    readonly headers: H
  }
}

/**
 * What a handler of a topic gets beside its value: the delivery, with what was decoded of it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Message<out K, out V, out H = Headers> extends Delivery {
  readonly decodedKey: K
  readonly decodedValue: V
  readonly decodedHeaders: H
}

function make<const K extends Topic.Field, const V extends Topic.Field>(
  name: string,
  options: { readonly key: K; readonly value: V; readonly headers?: undefined }
): Topic<
  K["Type"],
  V["Type"],
  Headers,
  K["DecodingServices"] | V["DecodingServices"],
  K["EncodingServices"] | V["EncodingServices"]
>
function make<const K extends Topic.Field, const V extends Topic.Field, const H extends Topic.Fields>(
  name: string,
  options: { readonly key: K; readonly value: V; readonly headers: H }
): Topic<K["Type"], V["Type"], H["Type"], (K | V | H)["DecodingServices"], (K | V | H)["EncodingServices"]>
function make<K extends Topic.Field, V extends Topic.Field, H extends Topic.Fields>(
  name: string,
  options: { readonly key: K; readonly value: V; readonly headers?: H | undefined }
) {
  topicNames("topic", [name])
  const topic = { name, key: field(name, "key", options.key), value: field(name, "value", options.value) }
  return options.headers === undefined
    ? { ...topic, headers: rawHeaders }
    : { ...topic, headers: headerFields(name, options.headers) }
}

const json = <S extends Schema.Constraint>(schema: S): Schema.decodeTo<S, Schema.String> =>
  Schema.String.pipe(
    Schema.decodeTo(schema, {
      // not Schema's own: that one ends in an effect which is run later, and costs a record 1 us more
      decode: SchemaGetter.transformEffect((text: string) => {
        try {
          return Effect.succeed(JSON.parse(text.charCodeAt(0) === 0xfeff ? text.slice(1) : text))
        } catch {
          return Effect.fail(new SchemaIssue.InvalidValue(notJson))
        }
      }),
      encode: SchemaGetter.transformEffect((value: S["Encoded"]) => {
        try {
          const text: string | undefined = JSON.stringify(value)
          if (text !== undefined) return Effect.succeed(text)
        } catch {
          // a bigint, or a cycle
        }
        return Effect.fail(new SchemaIssue.InvalidValue(notJson))
      })
    })
  )

/**
 * Makes typed topics, and what reads and writes them.
 *
 * @since 0.1.0
 * @category constructors
 */
export const Topic: {
  /**
   * A topic by the schemas of its records.
   *
   * - A schema whose encoded side is a string (`Schema.String`, `Schema.NumberFromString`, `Topic.json(...)`) reads UTF-8; other
   *   bytes are a `DecodeError`, never replaced characters. One whose encoded side is a `Uint8Array` reads the bytes themselves.
   * - A null key, or a tombstone, goes to the schema as null: `Schema.NullOr(Topic.json(Order))` accepts it, and any schema that
   *   does not accept null answers `DecodeError`.
   * - `headers` is an object by header name. Where a name occurs more than once its last value counts, as with Java's
   *   `lastHeader`; names that the schema does not have are passed over. Without `headers` they stay as they are.
   *
   * **Errors**: throws `InvalidOptions` when the name cannot be a topic's, or a schema's encoded side is none of these.
   */
  readonly make: typeof make
  /** JSON text of what this schema describes, as a schema of that text. */
  readonly json: <S extends Schema.Constraint>(schema: S) => Schema.decodeTo<S, Schema.String>
  /**
   * A handler of decoded records. What cannot be decoded fails with `DecodeError` and goes to the policy, before `f` is called.
   *
   * **Cost**: 0.9 us for a text key and JSON of a small struct, 0.5 of them in `TextDecoder` and `JSON.parse`. Use one
   * `Effect.fnUntraced` defined once; an `Effect.gen` created in each call costs 1.2 us more a record.
   */
  readonly handler: <K, V, H, RD, RE, Eff extends Effect.Effect<unknown, unknown, unknown>>(
    topic: Topic<K, V, H, RD, RE>,
    f: (value: V, message: Message<K, V, H>) => Eff
  ) => Handler<
    Directive.Rest<Effect.Error<Eff>> | DecodeError,
    Exclude<Effect.Services<Eff> | RD, Scope.Scope> | Directive.Services<Effect.Error<Eff>>
  >
  /**
   * The record to send. A key that is left out is null, if its schema accepts that.
   *
   * **Errors**: `EncodeError`, also for text with half a surrogate pair, which UTF-8 cannot say.
   */
  readonly encode: <K, V, H, RD, RE>(
    topic: Topic<K, V, H, RD, RE>,
    value: V,
    options?: { readonly key?: K | undefined; readonly headers?: H | undefined }
  ) => Effect.Effect<ProducerRecord, EncodeError, RE>
  /** What a handler of this topic would be given of a record, for tests and tools. */
  readonly decode: <K, V, H, RD, RE>(
    topic: Topic<K, V, H, RD, RE>,
    record: Pick<ProducerRecord, "key" | "value" | "headers">
  ) => Effect.Effect<Topic.Decoded<K, V, H>, DecodeError, RD>
} = {
  make,
  json,
  handler<K, V, H, RD, RE, Eff extends Effect.Effect<unknown, unknown, unknown>>(
    topic: Topic<K, V, H, RD, RE>,
    f: (value: V, message: Message<K, V, H>) => Eff
  ) {
    type Made = Handler<
      Directive.Rest<Effect.Error<Eff>> | DecodeError,
      Exclude<Effect.Services<Eff> | RD, Scope.Scope> | Directive.Services<Effect.Error<Eff>>
    >
    return Handler.make(topic.name, (record) =>
      Effect.flatMapEager(topic.key.decode(record.key), (key) =>
        Effect.flatMapEager(topic.value.decode(record.value), (value) =>
          Effect.flatMapEager(topic.headers.decode(record.headers), (headers) =>
            f(value, new DecodedMessage(record, key, value, headers))
          )
        )
      )
    ) as Made
  },
  encode: (topic, value, options) =>
    Effect.flatMapEager(topic.key.encode(options?.key), (key) =>
      Effect.flatMapEager(topic.value.encode(value), (bytes) =>
        Effect.mapEager(topic.headers.encode(options?.headers), (headers) => ({
          topic: topic.name,
          key,
          value: bytes,
          headers
        }))
      )
    ),
  decode: (topic, record) =>
    Effect.flatMapEager(topic.key.decode(record.key ?? null), (key) =>
      Effect.flatMapEager(topic.value.decode(record.value), (value) =>
        Effect.mapEager(topic.headers.decode(record.headers ?? []), (headers) => ({ key, value, headers }))
      )
    )
}
