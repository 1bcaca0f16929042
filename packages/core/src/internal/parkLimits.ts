/** How much may be parked in one partition, and for how long. */
import type { ParkLimits } from "../FailurePolicy.ts"
import { integer, millis } from "./options.ts"

export interface ParkSettings {
  readonly atMost: number
  /** milliseconds */
  readonly atMostFor: number
}

export const parkLimits = (limits?: ParkLimits): ParkSettings => ({
  atMost: integer("park.atMost", limits?.atMost, 1_000, 1),
  atMostFor: millis("park.atMostFor", limits?.atMostFor, 3_600_000, 1)
})
