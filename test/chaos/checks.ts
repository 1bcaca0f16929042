/**
 * What must hold of every run, whatever was done to it. Each check answers with sentences about what does not.
 *
 * - `lost`: every record in the log was finished (or its dead letter is there, or the broker was made to delete it), and every record
 *   that the broker has acknowledged is one of them.
 * - `lag`: at the end the group has committed the ends of the logs.
 * - `committed`: at no time was an offset committed past a record that had not finished, or did an offset map say so of one. A sample is
 *   older than its answer, so what it says must have been true before the answer came.
 * - `order`: within an epoch records of a key start in the order of offsets, and within a process never two at once.
 * - `again`: what was committed when a process began to read a partition, it does not handle again.
 * - `duplicates`: see `endOf`.
 * - `exits`: a process ends when it is told to, and in order.
 */
import type { Commit, Epoch, Event, Facts, Handling, Place } from "./facts.ts"
import { contains, groupBy, placeOf, runsOf } from "./facts.ts"

/** Handlers stamp their end before the engine knows of it, in the same turn of the event loop or the next one; and times of rebalances are whole milliseconds. */
const slackMillis = 10

const shown = (all: ReadonlyArray<unknown>): string => `${all.slice(0, 8).join(", ")}${all.length > 8 ? ", ..." : ""}`

const secondsOf = (at: number): string => `${(at / 1000).toFixed(3)} s`

export const lost = (facts: Facts): Array<string> => {
  const found: Array<string> = []
  for (const [place, end] of facts.ends) {
    const times = facts.doneAt.get(place) ?? []
    const missing = Array.from({ length: end }, (_, offset) => offset).filter((offset) => times[offset] === undefined)
    if (missing.length > 0) found.push(`lost: ${missing.length} records of ${place} never finished: ${shown(missing)}`)
  }
  const logs = new Set([...facts.ends.keys()].map((place) => place.split("/")[0]))
  const done = new Set(
    facts.handlings.filter((h) => facts.doneAt.get(placeOf(h))?.[h.offset] !== undefined).map(({ record }) => record)
  )
  const unheard = facts.produced.filter((p) => p.acknowledged !== null && logs.has(p.log) && !done.has(p.record))
  const deleted = [...facts.deleted.values()].reduce((sum, gone) => sum + gone.size, 0)
  if (unheard.length > deleted) {
    found.push(
      `lost: ${unheard.length} acknowledged records were not handled (${deleted} were deleted): ${shown(unheard.map((p) => p.record))}`
    )
  }
  return found
}

export const lag = (facts: Facts): Array<string> =>
  [...facts.ends].flatMap(([place, end]) => {
    const last = facts.samples.get(place)?.at(-1)?.offset
    return last === end ? [] : [`lag: ${place} ends at ${end}, committed at the end was ${last ?? "nothing"}`]
  })

/** The offset of a record that is not done then, if there is one. */
const notDone = (
  times: ReadonlyArray<number | undefined>,
  from: number,
  to: number,
  at: number
): number | undefined => {
  for (let offset = from; offset < to; offset++) if ((times[offset] ?? Infinity) > at) return offset
  return undefined
}

export const committed = (facts: Facts, topic: string): Array<string> => {
  const found: Array<string> = []
  for (const [place, samples] of facts.samples) {
    const times = facts.doneAt.get(place) ?? []
    let before = 0
    // what lies before this was done when an earlier sample was taken
    let seen = 0
    for (const { answered, metadata, offset, partition } of samples) {
      if (offset < before) found.push(`went back: committed of ${place} from ${before} to ${offset}`)
      before = offset
      const open = notDone(times, seen, offset, answered)
      if (open === undefined) seen = Math.max(seen, offset)
      else {
        found.push(
          `committed too far: ${offset} of ${place} at ${secondsOf(answered)}, when ${open} had not finished` +
            ` (it did at ${times[open] === undefined ? "no time" : secondsOf(times[open])})`
        )
      }
      const runs = runsOf(metadata, { topic, partition, offset })
      if (typeof runs === "string") {
        found.push(`offset map of ${place} beside ${offset} cannot be read: ${runs}`)
        continue
      }
      for (const [from, to] of runs) {
        const wrong = notDone(times, from, to, answered)
        if (wrong !== undefined)
          found.push(`offset map of ${place} beside ${offset} calls ${wrong} done, which had not finished`)
      }
    }
  }
  return found
}

const describe = (h: Handling): string => `${placeOf(h)}/${h.offset} in process ${h.pid}, epoch ${h.epoch}`

export const order = (facts: Facts): Array<string> => {
  const found: Array<string> = []
  const keyed = facts.handlings.filter(({ key }) => key !== null)
  for (const lane of groupBy(keyed, (h) => `${h.pid}/${placeOf(h)}/${h.key}`).values()) {
    for (let i = 1; i < lane.length; i++) {
      const before = lane[i - 1]!
      const h = lane[i]!
      if (h.epoch === before.epoch && h.offset < before.offset)
        found.push(`order: key ${h.key} started ${describe(h)} after ${before.offset}`)
      if (before.finished === null || h.started < before.finished)
        found.push(`two at once: key ${h.key} started ${describe(h)} while ${before.offset} ran`)
    }
  }
  return found
}

export const again = (facts: Facts): Array<string> => {
  const found: Array<string> = []
  for (const epochs of facts.epochs.values()) {
    for (const { begun, epoch, handlings, partition, pid } of epochs) {
      const logs = new Set(handlings.map(({ log }) => log))
      if (logs.size > 1) found.push(`epoch ${epoch} of ${partition} in process ${pid} has handled ${logs.size} logs`)
      const [first] = handlings
      if (first === undefined) continue
      const sample = facts.samples.get(placeOf(first))?.findLast(({ answered }) => answered <= begun)
      if (sample === undefined) continue
      const runs = runsOf(sample.metadata, { ...sample, topic: first.topic })
      const known = { offset: sample.offset, runs: typeof runs === "string" ? [] : runs }
      const repeated = handlings.filter((h) => contains(known, h.offset))
      if (repeated.length > 0) {
        found.push(
          `again: ${describe(first)} began at ${secondsOf(begun)}, when ${sample.offset} and an offset map of ${known.runs.length} runs` +
            ` were committed, and handled ${repeated.length} of these records again: ${shown(repeated.map((h) => h.offset))}`
        )
      }
    }
  }
  return found
}

export interface End {
  /**
   * How it ended. `orderly`: the partition was taken away, or the process was told to end, and the flush was possible. `broken`: the
   * process was killed or stopped, or had lost its membership. `open`: it did not.
   */
  readonly how: "orderly" | "broken" | "open"
  /** Records that somebody else may finish again. */
  readonly bound: number
  readonly wrong: ReadonlyArray<string>
}

/** When a revoke or the signal to end came that was the end of it: nothing has started after it. */
const orderlyAt = (facts: Facts, epoch: Epoch, next: Epoch): number | undefined => {
  const within = (e: Event) => e.pid === epoch.pid && e.at >= epoch.begun - slackMillis && e.at <= next.begun
  if (facts.signals.some((s) => within(s) && (s.kind === "SIGKILL" || s.kind === "SIGSTOP"))) return undefined
  if (facts.rebalances.some((r) => within(r) && r.kind === "lost")) return undefined
  const told = facts.signals.findLast((s) => within(s) && s.kind === "SIGTERM")
  const revoked = facts.rebalances.findLast((r) => within(r) && r.kind === "revoked")
  if (told !== undefined) return told.at
  if (revoked === undefined) return undefined
  return epoch.handlings.some(({ started }) => started > revoked.at + slackMillis) ? undefined : revoked.at
}

/**
 * What may be handled twice because this epoch ended.
 *
 * In an orderly end: what was in flight when the flush was sent, and nothing when it had drained; whatever had finished before must be
 * in the flush. In a broken one: what was in flight, and what had finished since the last commit that the broker has confirmed.
 */
export const endOf = (facts: Facts, epoch: Epoch, next: Epoch | undefined, orderly: boolean): End => {
  if (next === undefined) return { how: "open", bound: 0, wrong: [] }
  const commit: Commit | undefined = epoch.lastCommit
  const finished = epoch.handlings.filter(
    (h) => h.outcome === "finished" && !(commit !== undefined && contains(commit, h.offset))
  )
  const at = orderly ? orderlyAt(facts, epoch, next) : undefined
  if (at === undefined) {
    return {
      how: "broken",
      bound: finished.length + epoch.handlings.filter((h) => h.outcome === null).length,
      wrong: []
    }
  }
  const flushed = Math.max(at, commit?.sent ?? 0)
  const early = finished.filter((h) => h.finished! < flushed - slackMillis)
  return {
    how: "orderly",
    bound: finished.length - early.length,
    wrong:
      early.length === 0
        ? []
        : [
            `not flushed: ${describe(early[0]!)} and ${early.length - 1} more had finished before the partition was given up at ` +
              `${secondsOf(at)}, and are not in its last commit (${commit === undefined ? "none" : `${commit.offset}, sent at ${secondsOf(commit.sent)}`})`
          ]
  }
}

export interface Duplicates {
  readonly twice: number
  readonly bound: number
  readonly wrong: ReadonlyArray<string>
}

/** `orderly`: whether a flush was possible all the time; where the broker was away it was not. */
export const duplicates = (facts: Facts, orderly: boolean): Duplicates => {
  const wrong: Array<string> = []
  let bound = 0
  for (const epochs of facts.epochs.values()) {
    epochs.forEach((epoch, i) => {
      const end = endOf(facts, epoch, epochs[i + 1], orderly)
      bound += end.bound
      wrong.push(...end.wrong)
    })
  }
  let twice = 0
  const finished = facts.handlings.filter(({ outcome }) => outcome === "finished")
  for (const all of groupBy(finished, (h): Place => `${placeOf(h)}/${h.offset}`).values()) {
    twice += all.length - 1
    for (let i = 1; i < all.length; i++) {
      if (all[i]!.pid === all[i - 1]!.pid && all[i]!.epoch === all[i - 1]!.epoch)
        wrong.push(`twice in one epoch: ${describe(all[i]!)}`)
    }
  }
  if (twice > bound) wrong.push(`duplicates: ${twice} records were finished again, and at most ${bound} may have been`)
  return { twice, bound, wrong }
}

export const exits = (facts: Facts): Array<string> =>
  facts.exits.flatMap(({ asked, code, pid }) => {
    if (asked === null) return [`ended: process ${pid} by itself, with ${code ?? "a signal"}`]
    return asked === "SIGTERM" && code !== 130
      ? [`ended: process ${pid} with ${code ?? "a signal"}, told to by SIGTERM`]
      : []
  })

/** All of it. */
export const violations = (facts: Facts, topic: string, orderly: boolean): Array<string> => [
  ...lost(facts),
  ...lag(facts),
  ...committed(facts, topic),
  ...order(facts),
  ...again(facts),
  ...duplicates(facts, orderly).wrong,
  ...exits(facts),
  ...(facts.unexpected > 0 ? [`the state machines met ${facts.unexpected} events that they do not know`] : [])
]
