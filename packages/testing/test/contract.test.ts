import { contractSuite, type ContractOptions } from "@concurrent-kafka/testing/contract"
import { MemoryKafka } from "@concurrent-kafka/testing/MemoryKafka"
import { describe } from "@effect/vitest"
import { harness } from "./harness.ts"

/** By the names that other clients' suites have, so that the table of clients has them side by side. */
const suites: ReadonlyArray<readonly [name: string, protocol: ContractOptions<never, never>["protocol"]]> = [
  ["contract", "eager"],
  ["contract, consumer protocol", "incremental"],
  ["contract, cooperative", "cooperative"]
]

describe.each(suites)("memory: %s", (_, protocol) => {
  contractSuite("memory", {
    layer: MemoryKafka.layer({
      protocol: protocol === "incremental" ? "incremental" : "eager",
      requestLatency: 1,
      fetchLatency: 1,
      commitLatency: 1
    }),
    harness,
    protocol,
    settings: { sessionTimeout: 3_000, heartbeatInterval: 50, metadataMaxAge: 200, maxWait: 50 },
    patience: 20_000,
    quiet: 150,
    concurrent: true
  })
})
