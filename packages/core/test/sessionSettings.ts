import type { SessionSettings } from "../src/ConsumerSession.ts"

/** Group `g` in topic `t`, and else the defaults, as a driver gets them. */
export const sessionSettings: SessionSettings = {
  groupId: "g",
  topics: ["t"],
  isolation: "read_committed",
  sessionTimeout: 30_000,
  heartbeatInterval: 3_000,
  rebalanceTimeout: 60_000,
  revokeTimeout: 10_000,
  metadataMaxAge: 30_000,
  maxWait: 250,
  topicTimeout: undefined
}
