/**
 * A Kafka of the demo's own, one node on 127.0.0.1, whose data outlives the process: what `--resume` goes on with.
 *
 * A Ctrl-C on the terminal does not reach it, so that the consumer can commit first; and however this process ends, it stops after it.
 */
import * as Kafka from "@concurrent-kafka/test/kafka"
import { Effect } from "effect"
import { join } from "node:path"
import { DemoError } from "./error.ts"

/** Whether this machine can run one; the first time Maven fetches Kafka's jars. */
export const { prepare } = Kafka

export interface BrokerOptions {
  /** Where the demo keeps what it keeps. */
  readonly state: string
  /** The data that is there is thrown away. */
  readonly fresh: boolean
}

/** Gives its address. */
export const startBroker = ({ fresh, state }: BrokerOptions) =>
  Kafka.start({ folder: join(state, "kafka"), fresh, heap: "256m" }).pipe(
    Effect.map(({ brokers }) => brokers[0] ?? ""),
    Effect.mapError(
      ({ reason, usedBy }) =>
        new DemoError({ reason: usedBy === undefined ? reason : `another demo is running, with Kafka on ${usedBy}` })
    )
  )
