/**
 * The Kafka client on @platformatic/kafka 2.12.1.
 *
 * @since 0.1.0
 */
import type { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import type { KafkaClient, KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import type { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import type { ClientOptions } from "@concurrent-kafka/driver/ClientOptions"
import { layers } from "@concurrent-kafka/driver/Driver"
import type * as Config from "effect/Config"
import type * as Layer from "effect/Layer"
import { openClient } from "./internal/client.ts"

/**
 * How to reach the cluster.
 *
 * @since 0.1.0
 * @category options
 */
export interface PlatformaticOptions extends ClientOptions {}

const made = layers({ name: "platformatic", open: openClient })

/**
 * Provides `KafkaClient`, a `KafkaProducer` that connects on the first send, and Node's zstd for long offset maps unless the program
 * has provided an `OffsetMap.Zstd` itself.
 *
 * **Errors**: `InvalidOptions` names the option; `KafkaClientError`: `Connection` after `connectTimeout`, `Authentication`,
 * `Authorization`, `UnsupportedClient` when the brokers are older than Kafka 2.8.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: (
  options: PlatformaticOptions
) => Layer.Layer<KafkaClient | KafkaProducer, KafkaClientError | InvalidOptions> = made.layer

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
> = made.layerConfig
