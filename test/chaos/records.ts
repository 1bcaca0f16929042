/** What is in the records: text of five words, so that a handler knows what it is to do, and the ledger whose handling it was. */

/**
 * - `work`: takes its time.
 * - `flaky`: fails the first time.
 * - `fails`: always.
 * - `spins`: the first time, in whatever process, it computes for its time without letting anything else run.
 */
export type Kind = "work" | "flaky" | "fails" | "spins"

export interface Order {
  /** Which log it is in: a topic that is deleted and created again has two. */
  readonly log: string
  /** Its number in the run. */
  readonly record: number
  readonly kind: Kind
  readonly millis: number
}

/** Padded to at least so many bytes. */
export const encode = ({ kind, log, millis, record }: Order, bytes = 0): Uint8Array =>
  Buffer.from(`${log} ${record} ${kind} ${millis} `.padEnd(bytes, "x"))

export const decode = (value: Uint8Array | null): Order => {
  const [log = "", record = "", kind = "", millis = ""] = Buffer.from(value ?? [])
    .toString("latin1", 0, 80)
    .split(" ")
  return { log, record: Number(record), kind: kind as Kind, millis: Number(millis) }
}
