import { contractSuite } from "@concurrent-kafka/testing/contract"
import { MemoryKafka } from "@concurrent-kafka/testing/MemoryKafka"
import { harness } from "./harness.ts"

const settings = { sessionTimeout: 3_000, heartbeatInterval: 50, metadataMaxAge: 200, maxWait: 50 }

contractSuite("memory, eager", {
  layer: MemoryKafka.layer({ requestLatency: 1, fetchLatency: 1, commitLatency: 1 }),
  harness,
  protocol: "eager",
  settings,
  patience: 20_000,
  quiet: 150,
  concurrent: true
})

contractSuite("memory, incremental", {
  layer: MemoryKafka.layer({ protocol: "incremental", requestLatency: 1, fetchLatency: 1, commitLatency: 1 }),
  harness,
  protocol: "incremental",
  settings,
  patience: 20_000,
  quiet: 150,
  concurrent: true
})

contractSuite("memory, cooperative", {
  layer: MemoryKafka.layer({ requestLatency: 1, fetchLatency: 1, commitLatency: 1 }),
  harness,
  protocol: "cooperative",
  settings,
  patience: 20_000,
  quiet: 150,
  concurrent: true
})
