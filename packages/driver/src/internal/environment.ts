/** The client's settings from the environment, or whatever `ConfigProvider` there is. */
import { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type { ClientOptions } from "../ClientOptions.ts"

/** PEM texts in environments often have their line breaks written as `\n`. */
const pem = (text: string): string => text.replaceAll("\\n", "\n")

/** Any text will do, so the only mistake is that there is none. */
const required = (variable: string, what: string) =>
  Config.schema(Schema.String.annotate({ message: `not set; accepted: ${what}` }).check(Schema.isNonEmpty()), variable)

const Sasl = Config.all({
  mechanism: Config.Literals(["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], "KAFKA_SASL_MECHANISM"),
  username: required("KAFKA_SASL_USERNAME", "the user's name, since KAFKA_SECURITY_PROTOCOL asks for one"),
  password: Config.map(
    required("KAFKA_SASL_PASSWORD", "the user's password, since KAFKA_SECURITY_PROTOCOL asks for one"),
    (password) => Redacted.make(password)
  )
})

const mechanisms = { PLAIN: "plain", "SCRAM-SHA-256": "scram-sha-256", "SCRAM-SHA-512": "scram-sha-512" } as const

/** what the options are called in the environment */
export const variables: Readonly<Record<string, string>> = {
  brokers: "KAFKA_BOOTSTRAP_SERVERS",
  ssl: "KAFKA_SSL_CERT, KAFKA_SSL_KEY"
}

export const fromEnvironment = Effect.gen(function* () {
  const servers = yield* required("KAFKA_BOOTSTRAP_SERVERS", "host:port, several with commas between them")
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
  const options: ClientOptions = {
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

export const isEnabled = Config.withDefault(Config.Boolean("KAFKA_ENABLED"), true)
