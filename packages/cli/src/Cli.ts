/**
 * The commands, as one that another program may take in.
 *
 * @since 0.1.0
 */
import * as KafkaJs from "@concurrent-kafka/kafkajs/KafkaJs"
import * as Command from "effect/cli/Command"
import { explainCommand } from "./internal/explainCommand.ts"
import { redriveCommand } from "./internal/redriveCommand.ts"

/**
 * `concurrent-kafka explain` and `concurrent-kafka redrive`, with the client's settings from the environment (`KafkaJs.layerConfig`).
 *
 * @since 0.1.0
 * @category commands
 */
export const command = Command.make("concurrent-kafka").pipe(
  Command.withDescription(
    "Commands for topics of concurrent-kafka. The Kafka is named by KAFKA_BOOTSTRAP_SERVERS and the other KAFKA_ variables."
  ),
  Command.withSubcommands([explainCommand(KafkaJs.layerConfig), redriveCommand(KafkaJs.layerConfig)])
)
