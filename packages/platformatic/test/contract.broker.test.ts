import type { Library } from "@concurrent-kafka/driver/Driver"
import { afterAll, beforeAll, describe, inject } from "vitest"
import { breakConnections, evict, holdSync, instrumented } from "../../driver/test/instrumented.ts"
import { onKafka } from "../../kafkajs/test/harness.ts"
import { contractSuite } from "../../testing/src/contract.ts"
import type { Linked } from "../src/internal/broker.ts"
import { openClient } from "../src/internal/client.ts"
import { isSupported } from "./supported.ts"

const library: Library = { name: "platformatic", open: openClient }
const brokers = inject("brokers")
const { connect, disconnect, harness } = onKafka(brokers)

describe.skipIf(!isSupported)("on a real Kafka", () => {
  beforeAll(connect)
  afterAll(disconnect)

  contractSuite("platformatic", {
    layer: instrumented(library, brokers),
    harness: {
      ...harness,
      holdSync,
      evict: (session) => evict(library, brokers, session),
      breakConnections: (session) =>
        breakConnections(session, (broker) =>
          (broker as Linked).links.flatMap(({ socket }) => (socket === undefined ? [] : [socket]))
        )
    },
    protocol: "eager",
    settings: { sessionTimeout: 3000, heartbeatInterval: 200 },
    quiet: 500
  })
})
