import { Platformatic } from "@concurrent-kafka/platformatic"
import { engineOn } from "./engine.ts"
import type { System } from "./job.ts"

export const onPlatformatic: System = (job) => engineOn(job, Platformatic.layer({ brokers: job.brokers }))
