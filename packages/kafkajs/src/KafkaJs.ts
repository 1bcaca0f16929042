/**
 * The Kafka client on kafkajs 2.2.4: the default for production.
 *
 * @since 0.1.0
 */
import { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import { KafkaClient, KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import { OffsetMap } from "@concurrent-kafka/core/OffsetMap"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { makeAdmin } from "./internal/admin.ts"
import { isFatal } from "./internal/classify.ts"
import { type Client, makeClient, requestTimeoutOf } from "./internal/client.ts"
import { offsetMapZstd } from "./internal/codecs.ts"
import { disabledAdmin, disabledProducer, disabledSession } from "./internal/disabled.ts"
import { checkOptions, type ClientSettings } from "./internal/options.ts"
import { makeProducer, producerSettings } from "./internal/producer.ts"
import { makeSession } from "./internal/session.ts"
import { ask, backoff } from "./internal/state.ts"

/**
 * How to reach the cluster.
 *
 * @since 0.1.0
 * @category options
 */
export interface KafkaJsOptions {
  /** `host:port` of some brokers; the others are found through them. Java: `bootstrap.servers`. */
  readonly brokers: ReadonlyArray<string>
  /** Default `"concurrent-kafka"`. What brokers call this program in logs and quotas. Java: `client.id`. */
  readonly clientId?: string | undefined
  /** Default 10 s. The layer fails with `KafkaClientError` (`Connection`) when no broker has answered by then. */
  readonly connectTimeout?: Duration.Input | undefined
  /** Default `false`. `true`: the layer waits for the first broker as long as it takes. */
  readonly waitForBroker?: boolean | undefined
  /**
   * Default 120 s. How long a producer tries to send a record before it fails with `retriable`. At the end of it an answer may
   * be waited for, up to 30 s more, and a record whose fate is in doubt may take a quarter longer. Java: `delivery.timeout.ms`.
   */
  readonly deliveryTimeout?: Duration.Input | undefined
  /** `true`: TLS with the certificate authorities of Node; or PEM texts of your own. */
  readonly ssl?:
    | boolean
    | {
        readonly ca?: string | undefined
        readonly cert?: string | undefined
        readonly key?: Redacted.Redacted | undefined
      }
    | undefined
  /**
   * How to authenticate. The token of `oauthbearer` is asked for at each connection and shortly before the broker's session
   * ends: keep it as long as it is valid.
   */
  readonly sasl?:
    | {
        readonly mechanism: "plain" | "scram-sha-256" | "scram-sha-512"
        readonly username: string
        readonly password: Redacted.Redacted
      }
    | { readonly mechanism: "oauthbearer"; readonly token: Effect.Effect<Redacted.Redacted, KafkaClientError> }
    | undefined
}

/**
 * Connects once, so that wrong settings and a wrong version of kafkajs show at once. Sessions and admins have connections of
 * their own.
 */
const probe = (client: Client, settings: ClientSettings): Effect.Effect<void, KafkaClientError> => {
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
          detail: `no broker of ${settings.brokers.join(", ")} answered within ${settings.connectTimeout} ms${
            last === undefined ? "" : ` (${last.detail})`
          }`,
          ...(last === undefined ? {} : { cause: last })
        })
      )
  })
}

/** An attempt that is given up leaves no socket behind. */
const once = (client: Client, settings: ClientSettings): Effect.Effect<unknown, KafkaClientError> =>
  Effect.acquireUseRelease(
    Effect.try({
      try: () => client.openCluster(settings.connectTimeout, 0),
      catch: (error) => error as KafkaClientError
    }),
    (cluster) => ask(() => cluster.refresh([])),
    (cluster) => Effect.sync(() => cluster.close())
  )

const make = Effect.fnUntraced(function* (options: KafkaJsOptions) {
  const settings = yield* Effect.try({ try: () => checkOptions(options), catch: (error) => error as InvalidOptions })
  const client = makeClient(settings, yield* Effect.context<never>())
  yield* probe(client, settings)
  return KafkaClient.of({
    name: "kafkajs",
    enabled: true,
    openSession: (session) =>
      Effect.suspend(() => {
        const requestTimeout = requestTimeoutOf(session.sessionTimeout)
        return makeSession({
          settings: session,
          requestTimeout,
          openCluster: () => client.openCluster(requestTimeout, session.sessionTimeout)
        })
      }),
    openProducer: makeProducer(
      () => client.openCluster(requestTimeoutOf(Infinity), 0),
      producerSettings(settings.deliveryTimeout)
    ),
    openAdmin: Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => client.openCluster(requestTimeoutOf(Infinity), 0)),
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

/**
 * Provides `KafkaClient`, a `KafkaProducer` that connects on the first send, and Node's zstd for long offset maps unless the program
 * has provided an `OffsetMap.Zstd` itself.
 *
 * **Errors**: `InvalidOptions` names the option; `KafkaClientError`: `Connection` after `connectTimeout`, `Authentication`,
 * `Authorization`, `UnsupportedClient` when kafkajs is not version 2.2.4.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  options: KafkaJsOptions
): Layer.Layer<KafkaClient | KafkaProducer, KafkaClientError | InvalidOptions> => withProducer(make(options))

const disabled = KafkaClient.of({
  name: "kafkajs",
  enabled: false,
  openSession: disabledSession,
  openProducer: Effect.succeed(disabledProducer),
  openAdmin: Effect.succeed(disabledAdmin)
})

/** PEM texts in environments often have their line breaks written as `\n`. */
const pem = (text: string): string => text.replaceAll("\\n", "\n")

const Sasl = Config.all({
  mechanism: Config.Literals(["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], "KAFKA_SASL_MECHANISM"),
  username: Config.NonEmptyString("KAFKA_SASL_USERNAME"),
  password: Config.Redacted("KAFKA_SASL_PASSWORD")
})

const mechanisms = { PLAIN: "plain", "SCRAM-SHA-256": "scram-sha-256", "SCRAM-SHA-512": "scram-sha-512" } as const

/** what the options are called in the environment */
const variables: Readonly<Record<string, string>> = {
  brokers: "KAFKA_BOOTSTRAP_SERVERS",
  ssl: "KAFKA_SSL_CERT, KAFKA_SSL_KEY"
}

const fromEnvironment = Effect.gen(function* () {
  const servers = yield* Config.NonEmptyString("KAFKA_BOOTSTRAP_SERVERS")
  const clientId = yield* Config.option(Config.NonEmptyString("KAFKA_CLIENT_ID"))
  const protocol = yield* Config.withDefault(
    Config.Literals(["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], "KAFKA_SECURITY_PROTOCOL"),
    "PLAINTEXT" as const
  )
  const ca = yield* Config.option(Config.NonEmptyString("KAFKA_SSL_CA"))
  const cert = yield* Config.option(Config.NonEmptyString("KAFKA_SSL_CERT"))
  const key = yield* Config.option(Config.Redacted("KAFKA_SSL_KEY"))
  const mechanism = yield* Config.option(Config.String("KAFKA_SASL_MECHANISM"))
  const withTls = protocol === "SSL" || protocol === "SASL_SSL"
  const withSasl = protocol === "SASL_PLAINTEXT" || protocol === "SASL_SSL"
  // who has set these believes to be encrypted, or authenticated
  const unused = (accepted: string) =>
    new InvalidOptions({ option: "KAFKA_SECURITY_PROTOCOL", value: protocol, accepted })
  if (!withTls && (Option.isSome(ca) || Option.isSome(cert) || Option.isSome(key))) {
    return yield* unused('"SSL" or "SASL_SSL", since KAFKA_SSL_CA, KAFKA_SSL_CERT or KAFKA_SSL_KEY is set')
  }
  if (!withSasl && Option.isSome(mechanism)) {
    return yield* unused('"SASL_PLAINTEXT" or "SASL_SSL", since KAFKA_SASL_MECHANISM is set')
  }
  const sasl = withSasl ? yield* Sasl : undefined
  const text = (value: Option.Option<string>) => Option.getOrUndefined(Option.map(value, pem))
  const options: KafkaJsOptions = {
    brokers: servers.split(",").map((server) => server.trim()),
    clientId: Option.getOrUndefined(clientId),
    ssl: withTls
      ? {
          ca: text(ca),
          cert: text(cert),
          key: Option.getOrUndefined(Option.map(key, (value) => Redacted.make(pem(Redacted.value(value)))))
        }
      : false,
    sasl: sasl && { mechanism: mechanisms[sasl.mechanism], username: sasl.username, password: sasl.password }
  }
  return options
})

/**
 * `layer` with its settings from the environment (or whatever `ConfigProvider` there is):
 *
 * | variable | |
 * | --- | --- |
 * | `KAFKA_BOOTSTRAP_SERVERS` | `host:port`, several with commas between them; required |
 * | `KAFKA_CLIENT_ID` | default `concurrent-kafka` |
 * | `KAFKA_SECURITY_PROTOCOL` | `PLAINTEXT` (default), `SSL`, `SASL_PLAINTEXT`, `SASL_SSL` |
 * | `KAFKA_SSL_CA`, `KAFKA_SSL_CERT`, `KAFKA_SSL_KEY` | PEM texts; line breaks may be written as `\n` |
 * | `KAFKA_SASL_MECHANISM` | `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` |
 * | `KAFKA_SASL_USERNAME`, `KAFKA_SASL_PASSWORD` | required with SASL |
 * | `KAFKA_ENABLED` | `false`: connects nothing, sessions never get a record, nothing is sent |
 *
 * **Errors**: those of `layer`; `ConfigError` and `InvalidOptions` name the variable and what is accepted.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: Layer.Layer<
  KafkaClient | KafkaProducer,
  KafkaClientError | InvalidOptions | Config.ConfigError
> = withProducer(
  Effect.gen(function* () {
    const enabled = yield* Config.withDefault(Config.Boolean("KAFKA_ENABLED"), true)
    if (!enabled) return disabled
    return yield* make(yield* fromEnvironment).pipe(
      Effect.mapError((error) =>
        error._tag === "InvalidOptions" && variables[error.option] !== undefined
          ? new InvalidOptions({ option: variables[error.option]!, value: error.value, accepted: error.accepted })
          : error
      )
    )
  })
)
