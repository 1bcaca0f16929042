/**
 * Records that are given up for now: a parked record keeps its lane and its place in front of what is done behind it, and leaves when its
 * time is over, when more than so many are parked, when it would stop its partition for good, or with its epoch.
 *
 * Invariants, with their tests in `test/parking.test.ts`:
 * - a partition does not stand still for the sake of what is parked: where its map is almost full, or `maxUncommitted` is reached behind a
 *   parked record, or all that it holds is parked, one goes to what comes after parking;
 * - for `maxUncommitted` only the record that all others wait for goes, for the map one at a time;
 * - nobody is decided about in an epoch that is not open, nor in a consumer that closes.
 */
import type { Decision } from "../FailurePolicy.ts"
import { Pause, type PartitionEpoch } from "./epoch.ts"
import { parkLimits } from "./parkLimits.ts"
import { RecordEvent } from "./recordMachine.ts"
import type { Slot } from "./slot.ts"
import type { RunState } from "./state.ts"
import type { Timetable } from "./timetable.ts"

/** What is done about failures otherwise. */
export interface ParkingHooks {
  readonly carryOut: (slot: Slot, decision: Decision) => void
  /** takes the step of the record, if there is one */
  readonly can: (slot: Slot, event: RecordEvent) => boolean
  /** it has been taken */
  readonly decided: (slot: Slot) => void
  /** what the policy says cannot be done */
  readonly broken: (slot: Slot, defect: unknown) => void
  /** the permit is free, the lane is not */
  readonly rest: (slot: Slot) => void
}

export class Parking {
  private readonly run: RunState
  private readonly timetable: Timetable
  private readonly hooks: ParkingHooks

  constructor(run: RunState, timetable: Timetable, hooks: ParkingHooks) {
    this.run = run
    this.timetable = timetable
    this.hooks = hooks
  }

  /** Gives the record up for now. */
  park(slot: Slot, decision: Decision.Park): void {
    // a parked record is a gap, and without the map all that is done behind it would be done again
    if (!this.run.mapped) return this.hooks.carryOut(slot, decision.then)
    const epoch = slot.at
    let limits
    try {
      limits = parkLimits(decision.limits)
    } catch (defect) {
      return this.hooks.broken(slot, defect)
    }
    if (!this.hooks.can(slot, RecordEvent.park)) return
    this.hooks.decided(slot)
    slot.parking = { atMost: limits.atMost, then: decision.then }
    epoch.parked.add(slot)
    const { lowestParked } = epoch
    if (epoch.parked.size === 1 || (lowestParked !== undefined && slot.seq < lowestParked.seq))
      epoch.lowestParked = slot
    if (epoch.relieving === slot.seq) epoch.relieving = -1
    if (slot.lane !== undefined) epoch.backlog.park(slot.lane)
    slot.appointment = this.timetable.at(this.run.ticks() + limits.atMostFor, () => {
      slot.appointment = undefined
      epoch.overdue.add(slot)
      this.check(epoch)
    })
    this.hooks.rest(slot)
  }

  /**
   * Takes parked records away, one after another, as long as there is a reason. Asked whenever the partition may go on, so that no
   * way into such a state can be forgotten: parking, a limit that is reached, the return from a rejoin.
   */
  check(epoch: PartitionEpoch): void {
    // who is taken away offers its partition, which looks here again: thousands are overdue when a partition comes back
    if (epoch.checkingParked) return
    epoch.checkingParked = true
    try {
      while (epoch.state === "open" && !this.run.closing) {
        const slot = this.leaver(epoch)
        if (slot === undefined) return
        this.unpark(slot)
      }
    } finally {
      epoch.checkingParked = false
    }
  }

  /** Who is parked no longer: whose time is over, or for whom a limit is reached, or who would stop the partition for good. */
  private leaver(epoch: PartitionEpoch): Slot | undefined {
    const [late] = epoch.overdue
    if (late !== undefined) return late
    const [oldest] = epoch.parked
    if (oldest === undefined) return undefined
    const { parked, pauses, tracker } = epoch
    if (parked.size + epoch.backlog.behindParked > oldest.parking!.atMost || standsStill(epoch)) return oldest
    if ((pauses & (Pause.map | Pause.uncommitted)) === 0) return undefined
    const lowest = lowestParked(epoch)
    // it is what all the others wait for
    if (lowest.seq === tracker.base) return lowest
    // a gap less makes the map shorter, nobody knows by how much: the next one when this one is done
    if ((pauses & Pause.map) === 0 || !(epoch.relieving < 0 || tracker.isDone(epoch.relieving))) return undefined
    epoch.relieving = lowest.seq
    return lowest
  }

  private unpark(slot: Slot): void {
    const next = slot.parking!.then
    this.leaves(slot)
    this.hooks.carryOut(slot, next)
  }

  /** It is parked no longer, and what becomes of it is for others to say. */
  leaves(slot: Slot): void {
    const epoch = slot.at
    epoch.parked.delete(slot)
    epoch.overdue.delete(slot)
    if (epoch.lowestParked === slot) epoch.lowestParked = undefined
    slot.parking = undefined
    if (slot.appointment !== undefined) this.timetable.cancel(slot.appointment)
    slot.appointment = undefined
    if (slot.lane !== undefined) epoch.backlog.unpark(slot.lane)
  }
}

/** All that it may hold is parked, or waits behind that: nothing would happen before the time of the first is over. */
const standsStill = ({ backlog, inFlight, pauses, waiting }: PartitionEpoch): boolean =>
  (pauses & Pause.full) !== 0 && inFlight === 0 && waiting.size === 0 && backlog.size === backlog.behindParked

/** Looked for only after the one before has left. */
const lowestParked = (epoch: PartitionEpoch): Slot => {
  let lowest = epoch.lowestParked
  if (lowest === undefined) {
    for (const slot of epoch.parked) if (lowest === undefined || slot.seq < lowest.seq) lowest = slot
    epoch.lowestParked = lowest
  }
  return lowest!
}
