/** Suite: the contract of all Kafka clients, on a real broker. */
import { afterAll, beforeAll, inject } from "vitest"
import { contractSuite, type ContractOptions } from "../../../testing/src/contract.ts"
import { breakConnections, type Client, evict, instrumented, nameOf, suiteOf } from "../client.ts"
import { onKafka } from "../harness.ts"
import { holdSync } from "../instrumented.ts"

export const contract = (client: Client, protocol: ContractOptions<never, never>["protocol"] = "eager"): void => {
  const brokers = inject("brokers")
  const { connect, disconnect, harness } = onKafka(brokers)

  suiteOf(client, protocol === "incremental" ? "contract, consumer protocol" : "contract", () => {
    beforeAll(connect)
    afterAll(disconnect)

    contractSuite(nameOf(client), {
      layer: instrumented(client, brokers),
      harness: {
        ...harness,
        holdSync,
        evict: (session) => evict(client, brokers, session),
        breakConnections: (session) => breakConnections(client, session)
      },
      protocol,
      settings: { sessionTimeout: 3000, heartbeatInterval: 200 },
      quiet: 500
    })
  })
}
