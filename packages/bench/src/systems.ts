/**
 * What is measured: this library on each of its clients, and each client alone. Bare clients commit what they have fetched and handle one
 * record at a time, but for `pool`.
 *
 * A process loads what it measures and no more: what it holds in memory is a result too.
 */
import type { bare as kafkaJs } from "./bareKafkaJs.ts"
import type { bare as streams } from "./bareStream.ts"
import type { System } from "./job.ts"

const onKafkaJs =
  (name: keyof typeof kafkaJs): System =>
  async (job) =>
    (await import("./bareKafkaJs.ts")).bare[name](job)

const onStream =
  (name: keyof typeof streams): System =>
  async (job) =>
    (await import("./bareStream.ts")).bare[name](job)

const onPlatformatic: System = async (job) => (await import("./enginePlatformatic.ts")).onPlatformatic(job)

export const systems = {
  engine: async (job) => (await import("./engineKafkaJs.ts")).onKafkaJs(job),
  engineObserved: async (job) => (await import("./observed.ts")).observed(job),
  engineUnobserved: async (job) => (await import("./observed.ts")).unobserved(job),
  enginePlatformatic: onPlatformatic,
  enginePlatformaticConsumer: (job) => onPlatformatic({ ...job, work: { ...job.work, groupProtocol: "consumer" } }),
  eachMessage: onKafkaJs("eachMessage"),
  eachBatch: onKafkaJs("eachBatch"),
  pool: onKafkaJs("pool"),
  stream: onStream("stream"),
  streamLoop: onStream("streamLoop"),
  streamConsumer: onStream("streamConsumer")
} satisfies Record<string, System>

export type SystemName = keyof typeof systems
