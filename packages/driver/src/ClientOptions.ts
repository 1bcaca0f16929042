/**
 * The settings of a client, the same with every library. A module of its own: it is what the types of a client lead to.
 *
 * @since 0.1.0
 */
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"

/**
 * How to reach the cluster.
 *
 * @since 0.1.0
 * @category options
 */
export interface ClientOptions {
  /** `host:port` of some brokers, `[::1]:9092` with an IPv6 address; the others are found through them. Java: `bootstrap.servers`. */
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
