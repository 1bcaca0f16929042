/** The layers that a package of a library provides: the same settings, the same errors, the same services, whatever the library. */
import { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import { KafkaClient, KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import { OffsetMap } from "@concurrent-kafka/core/OffsetMap"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as zlib from "node:zlib"
import { makeAdmin } from "./admin.ts"
import { isFatal } from "./classify.ts"
import type { Cluster } from "./cluster.ts"
import { disabledAdmin, disabledProducer, disabledSession } from "./disabled.ts"
import { fromEnvironment, isEnabled, variables } from "./environment.ts"
import type { ClientOptions } from "../ClientOptions.ts"
import { addressText } from "./address.ts"
import { checkOptions, type ClientSettings } from "./options.ts"
import { makeProducer, producerSettings } from "./producer.ts"
import { makeSession } from "./session.ts"
import { ask, backoff } from "./state.ts"

/**
 * Connections of their own to a cluster. `sessionTimeout`: that of the session they are for, else 0. Throws `KafkaClientError`
 * (`UnsupportedClient`) when the library is not one that is known.
 */
export type OpenCluster = (requestTimeout: number, sessionTimeout: number) => Cluster

/** A client library, as far as it is not a `Connector`. */
export interface Library {
  /** of the `KafkaClient` */
  readonly name: string
  /** `context` is that of the layer: for logs, and for the token of `oauthbearer`. */
  readonly open: (settings: ClientSettings, context: Context.Context<never>) => OpenCluster
}

/** An answer that takes longer is not waited for; see `Capabilities`. */
const longestRequest = 10_000

/** A third of the session leaves two more tries before the broker gives us up. */
export const requestTimeoutOf = (sessionTimeout: number): number =>
  Math.max(2000, Math.min(longestRequest, Math.floor(sessionTimeout / 3)))

/** For compressed offset maps: Node's own, where it has it. */
const offsetMapZstd: OffsetMap.Zstd | undefined =
  typeof zlib.zstdDecompressSync === "function"
    ? {
        compress: (bytes) => zlib.zstdCompressSync(bytes),
        decompress: (bytes, limit) => zlib.zstdDecompressSync(bytes, { maxOutputLength: limit })
      }
    : undefined

/**
 * Connects once, so that wrong settings and a wrong version of the library show at once. Sessions and admins have connections of
 * their own.
 */
const probe = (client: OpenCluster, settings: ClientSettings): Effect.Effect<void, KafkaClientError> => {
  const attempt = Effect.gen(function* () {
    for (let failures = 1; ; failures++) {
      const result = yield* Effect.result(once(client, settings))
      if (result._tag === "Success") return
      if (isFatal(result.failure)) return yield* result.failure
      last = result.failure
      yield* Effect.logDebug(`no Kafka broker yet: ${result.failure.message}`)
      yield* Effect.sleep(backoff(failures))
    }
  })
  let last: KafkaClientError | undefined
  if (settings.waitForBroker) return attempt
  return Effect.timeoutOrElse(attempt, {
    duration: settings.connectTimeout,
    orElse: () =>
      Effect.fail(
        new KafkaClientError({
          reason: "Connection",
          detail: `no broker of ${settings.brokers.map(addressText).join(", ")} answered within ${settings.connectTimeout} ms${
            last === undefined ? "" : ` (${last.detail})`
          }`,
          ...(last === undefined ? {} : { cause: last })
        })
      )
  })
}

/** An attempt that is given up leaves no socket behind. */
const once = (client: OpenCluster, settings: ClientSettings): Effect.Effect<unknown, KafkaClientError> =>
  Effect.acquireUseRelease(
    Effect.try({
      try: () => client(settings.connectTimeout, 0),
      catch: (error) => error as KafkaClientError
    }),
    (cluster) => ask(() => cluster.refresh([])),
    (cluster) => Effect.sync(() => cluster.close())
  )

const make = Effect.fnUntraced(function* (library: Library, options: ClientOptions) {
  const settings = yield* Effect.try({ try: () => checkOptions(options), catch: (error) => error as InvalidOptions })
  const client = library.open(settings, yield* Effect.context<never>())
  yield* probe(client, settings)
  return KafkaClient.of({
    name: library.name,
    enabled: true,
    openSession: (session) =>
      Effect.suspend(() => {
        const requestTimeout = requestTimeoutOf(session.sessionTimeout)
        return makeSession({
          settings: session,
          requestTimeout,
          openCluster: () => client(requestTimeout, session.sessionTimeout)
        })
      }),
    openProducer: makeProducer(() => client(requestTimeoutOf(Infinity), 0), producerSettings(settings.deliveryTimeout)),
    openAdmin: Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => client(requestTimeoutOf(Infinity), 0)),
        (cluster) => Effect.sync(() => cluster.close())
      ),
      (cluster) => makeAdmin(cluster, requestTimeoutOf(Infinity))
    )
  })
})

/** Not `KafkaProducer.layer`: a constant is built once, and two clusters in one program would share the first one's producer. */
const withProducer = <E>(client: Effect.Effect<KafkaClient["Service"], E>) =>
  Layer.effectContext(
    Effect.gen(function* () {
      const made = yield* client
      const producer = yield* Effect.provideService(KafkaProducer.make, KafkaClient, made)
      // a compressor that the program has provided itself goes before
      const zstd = (yield* OffsetMap.Zstd) ?? offsetMapZstd
      return Context.make(KafkaClient, made).pipe(
        Context.add(KafkaProducer, producer),
        Context.add(OffsetMap.Zstd, zstd)
      )
    })
  )

type Services = KafkaClient | KafkaProducer

export interface DriverLayers {
  readonly layer: (options: ClientOptions) => Layer.Layer<Services, KafkaClientError | InvalidOptions>
  readonly layerConfig: Layer.Layer<Services, KafkaClientError | InvalidOptions | Config.ConfigError>
}

export const layers = (library: Library): DriverLayers => ({
  layer: (options) => withProducer(make(library, options)),
  layerConfig: withProducer(
    Effect.gen(function* () {
      if (!(yield* isEnabled)) return disabled(library.name)
      return yield* make(library, yield* fromEnvironment).pipe(
        Effect.mapError((error) =>
          error._tag === "InvalidOptions" && variables[error.option] !== undefined
            ? new InvalidOptions({ option: variables[error.option]!, value: error.value, accepted: error.accepted })
            : error
        )
      )
    })
  )
})

const disabled = (name: string) =>
  KafkaClient.of({
    name,
    enabled: false,
    openSession: disabledSession,
    openProducer: Effect.succeed(disabledProducer),
    openAdmin: Effect.succeed(disabledAdmin)
  })
