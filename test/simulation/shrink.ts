/**
 * Of a history that fails, the shortest that fails in the same way: steps are left out, half of them first, then fewer at a time, then
 * members and records. A step that is left out changes no other one (see `schedule.ts`).
 */
import { type HistoryOptions, type Result, runHistory } from "./history.ts"
import type { Cut } from "./schedule.ts"

export interface Shrunk {
  readonly cut: Cut
  /** how many steps are left */
  readonly steps: number
  /** the history that is left, with everything that it has to tell */
  readonly result: Result
}

/** The first step, and the two of the end, are no part of the schedule. */
const numbersOf = ({ schedule }: Result): ReadonlyArray<number> =>
  Array.from({ length: schedule.length + 3 }, (_, number) => number)

export const shrinkHistory = async (
  failed: Result,
  options: HistoryOptions & { readonly budgetMillis: number }
): Promise<Shrunk> => {
  const { budgetMillis, ...rest } = options
  const until = Date.now() + budgetMillis
  const numbers = numbersOf(failed)
  const invariant = failed.violations[0]!.invariant
  const { forbids, skip = new Set<number>() } = rest
  let cut: Cut = { members: rest.members, burst: rest.burst }
  const skipping = (kept: ReadonlyArray<number>): ReadonlySet<number> =>
    new Set(numbers.filter((number) => !kept.includes(number)))
  const fails = async (tried: Cut): Promise<boolean> => {
    if (Date.now() > until) return false
    const { violations } = await runHistory(failed.seed, { ...tried, forbids })
    return violations[0]?.invariant === invariant
  }

  let kept = numbers.filter((number) => !skip.has(number))
  // what was to come later had no part in it
  const before = kept.filter((number) => (failed.schedule[number - 1] ?? 0) <= failed.violations[0]!.at - 1_000_000)
  if (await fails({ ...cut, skip: skipping(before) })) kept = before
  const leaveOut = async (): Promise<void> => {
    for (let size = Math.ceil(kept.length / 2); size >= 1 && Date.now() < until;) {
      let shorter = false
      for (let at = 0; at < kept.length && Date.now() < until;) {
        const without = [...kept.slice(0, at), ...kept.slice(at + size)]
        if (await fails({ ...cut, skip: skipping(without) })) {
          kept = without
          shorter = true
        } else at += size
      }
      // what could not be left out alone can be, once something else is gone
      if (size > 1) size = Math.ceil(size / 2)
      else if (!shorter) return
    }
  }
  await leaveOut()
  const { length } = kept
  for (let members = 1; members < (cut.members ?? failed.members); members++) {
    if (!(await fails({ ...cut, members, skip: skipping(kept) }))) continue
    cut = { ...cut, members }
    break
  }
  for (const burst of [1, 3, 8]) {
    if (burst >= (cut.burst ?? Number.POSITIVE_INFINITY)) break
    if (!(await fails({ ...cut, burst, skip: skipping(kept) }))) continue
    cut = { ...cut, burst }
    break
  }
  if (cut.members !== undefined || cut.burst !== undefined || kept.length < length) await leaveOut()
  cut = { ...cut, skip: skipping(kept) }
  return { cut, steps: kept.length, result: await runHistory(failed.seed, { ...cut, forbids, verbose: true }) }
}

/** As `--skip` takes it: `0-4,7`. */
export const printSkip = (skip: ReadonlySet<number>): string => {
  const numbers = [...skip].sort((a, b) => a - b)
  const parts: Array<string> = []
  for (let i = 0; i < numbers.length;) {
    let j = i
    while (numbers[j + 1] === numbers[j]! + 1) j++
    parts.push(i === j ? `${numbers[i]}` : `${numbers[i]}-${numbers[j]}`)
    i = j + 1
  }
  return parts.join(",")
}

/** `undefined` for what is none. */
export const readSkip = (text: string): ReadonlySet<number> | undefined => {
  const skip = new Set<number>()
  for (const part of text.split(",").filter((one) => one !== "")) {
    const found = /^(\d+)(?:-(\d+))?$/.exec(part)
    if (found === null) return undefined
    for (let number = Number(found[1]); number <= Number(found[2] ?? found[1]); number++) skip.add(number)
  }
  return skip
}
