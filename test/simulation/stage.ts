/**
 * What all of a history share: its world, its broker, its plan, and who looks on.
 */
import type { Cluster } from "@concurrent-kafka/testing/MemoryKafka"
import type { World } from "@concurrent-kafka/testing/World"
import type { Checker } from "./checker.ts"
import type { Coverage } from "./coverage.ts"
import type { Plan } from "./plan.ts"
import type { Cut } from "./schedule.ts"

export interface Stage {
  readonly world: World
  readonly cluster: Cluster
  readonly checker: Checker
  readonly coverage: Coverage
  readonly plan: Plan
  readonly healed: () => boolean
  readonly cut: Cut
}

export const groupId = "group"
