/** Suite: the contract of all Kafka clients, on a real broker. */
import { inject } from "vitest"
import { contractSuite, type ContractOptions } from "../../../testing/src/contract.ts"
import { breakConnections, type Client, evict, instrumented, nameOf, suiteOf } from "../client.ts"
import { onKafka } from "../harness.ts"
import { holdSync } from "../instrumented.ts"

export const contract = (client: Client, protocol: ContractOptions<never, never>["protocol"] = "eager"): void => {
  const brokers = inject("brokers")

  const incremental = protocol === "incremental"
  const names = { eager: "contract", incremental: "contract, consumer protocol", cooperative: "contract, cooperative" }
  suiteOf(
    client,
    names[protocol],
    () => {
      contractSuite(nameOf(client), {
        layer: instrumented(client, brokers),
        harness: {
          ...onKafka(brokers),
          holdSync,
          evict: (session) => evict(client, brokers, session),
          breakConnections: (session) => breakConnections(client, session)
        },
        protocol,
        settings: { sessionTimeout: 3000, heartbeatInterval: 200 },
        quiet: 500,
        concurrent: true
      })
    },
    incremental ? client.classicOnly : undefined
  )
}
