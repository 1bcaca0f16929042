import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { engineOn } from "./engine.ts"
import type { System } from "./job.ts"

export const onKafkaJs: System = (job) => engineOn(job, KafkaJs.layer({ brokers: job.brokers }))
