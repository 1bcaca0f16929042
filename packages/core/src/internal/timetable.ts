/**
 * What is to be done at a time: retries, repeated dead letters, the age of parked records. One timer for all of them, because ten
 * thousand records that wait for a retry must cost neither a fiber nor a timer each.
 */
import { Heap } from "./heap.ts"

export interface Appointment {
  readonly at: number
  then: () => void
  cancelled: boolean
  /** is in the heap */
  queued: boolean
}

/** below this nobody looks for cancelled ones */
const fewAppointments = 1024
const nothing = (): void => undefined

export class Timetable {
  private readonly now: () => number
  private readonly after: (millis: number, then: () => void) => () => void
  private readonly heap = new Heap<Appointment>((appointment) => appointment.at)
  private cancelled = 0
  private armedFor = Number.POSITIVE_INFINITY
  private disarm: () => void = nothing

  /** `after` gives back how its timer is stopped. */
  constructor(now: () => number, after: (millis: number, then: () => void) => () => void) {
    this.now = now
    this.after = after
  }

  get size(): number {
    return this.heap.size - this.cancelled
  }
  /** Those that were cancelled and are not thrown out yet included. */
  get kept(): number {
    return this.heap.size
  }

  at(at: number, then: () => void): Appointment {
    const appointment: Appointment = { at, then, cancelled: false, queued: true }
    this.heap.push(appointment)
    if (at < this.armedFor) this.arm(at)
    return appointment
  }

  cancel(appointment: Appointment): void {
    if (appointment.cancelled) return
    appointment.cancelled = true
    // it may stay here for an hour, and what it was to do holds a record
    appointment.then = nothing
    if (!appointment.queued) return
    this.cancelled++
    if (this.heap.size < fewAppointments || this.cancelled < this.heap.size >> 1) return
    this.heap.keep((kept) => !kept.cancelled)
    this.cancelled = 0
  }

  private arm(at: number): void {
    this.disarm()
    this.armedFor = at
    this.disarm = this.after(Math.max(0, at - this.now()), () => this.due())
  }

  private due(): void {
    this.armedFor = Number.POSITIVE_INFINITY
    this.disarm = nothing
    const now = this.now()
    const due: Array<Appointment> = []
    for (;;) {
      const first = this.heap.first
      if (first === undefined || (!first.cancelled && first.at > now)) break
      this.heap.pop()
      first.queued = false
      if (first.cancelled) this.cancelled--
      else due.push(first)
    }
    const next = this.heap.first
    if (next !== undefined) this.arm(next.at)
    // one may cancel another, which then has nothing to do
    for (const appointment of due) appointment.then()
  }
}
