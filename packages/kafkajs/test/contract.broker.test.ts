import { contractSuite } from "../../testing/src/contract.ts"
import { afterAll, beforeAll, inject } from "vitest"
import { onKafka } from "./harness.ts"
import { breakConnections, evict, holdSync, instrumented } from "./instrumented.ts"

const brokers = inject("brokers")
const { connect, disconnect, harness } = onKafka(brokers)

beforeAll(connect)
afterAll(disconnect)

contractSuite("kafkajs", {
  layer: instrumented(brokers),
  harness: { ...harness, holdSync, evict: (session) => evict(brokers, session), breakConnections },
  protocol: "eager",
  settings: { sessionTimeout: 3000, heartbeatInterval: 200 },
  quiet: 500
})
