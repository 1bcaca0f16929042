/**
 * A failed history for people: its plan in a few lines, and of what happened only what can have to do with the failure.
 */
import type { Result } from "./history.ts"
import { planOf } from "./plan.ts"
import { type Cut } from "./schedule.ts"
import { printSkip, type Shrunk } from "./shrink.ts"

const mostLines = 80

export const replayOf = (seed: number, cut: Cut = {}): string =>
  [
    `npm run simulate -- --seed ${seed} --seeds 1 --verbose`,
    ...(cut.skip === undefined || cut.skip.size === 0 ? [] : [`--skip ${printSkip(cut.skip)}`]),
    ...(cut.members === undefined ? [] : [`--members ${cut.members}`]),
    ...(cut.burst === undefined ? [] : [`--burst ${cut.burst}`])
  ].join(" ")

const describePlan = (seed: number, cut: Cut): ReadonlyArray<string> => {
  const plan = planOf(seed)
  const topics = plan.topics.map(({ name, partitions }) => `${name} (${partitions})`).join(", ")
  return [
    `${plan.protocol}, order ${plan.order}; topics ${topics}; chunks of ${plan.maxChunk}; metadata up to ${plan.maxMetadata}; ` +
      `latency ${plan.latency.request}, of fetches ${plan.latency.fetch}, of commits ${plan.latency.commit} ms`,
    ...plan.members.slice(0, cut.members).map(({ options, policy, requestTimeout, timeout }, i) => {
      const { concurrency, heartbeatInterval, maxUncommitted, offsetMap, revokeDrain, shutdown } = options
      return (
        `m${i + 1}: concurrency ${concurrency}, map ${offsetMap}, policy ${policy}, at most ${maxUncommitted} uncommitted, ` +
        `batch ${options.batchSize} or ${options.batchInterval} ms, drain ${revokeDrain} ms, heartbeat ${heartbeatInterval} ms, ` +
        `requests ${requestTimeout} ms, closes by ${shutdown}${timeout === undefined ? "" : `, handlers ${timeout} ms`}`
      )
    })
  ]
}

/** of every history: who came and went, what went wrong, who got what, what was committed */
const always =
  /^ *[\d.]+ (SIM|CHECK|KAFKA|BROKER) |(joins|leaves|starts|is killed|freezes|thaws|is evicted|runs, for|run ended|policy says stop|closing|interruption of run|revoking|assigned|lost|gone|out of range|reopens|begins|answers the revoke|commits|hears|logs (ERROR|Error|WARN|Warn))/
const handling = /^ *[\d.]+ \S+ +(starts|ends|skips|sends dead letters of|dead letters of|sees chunk) /

/** Handlings only of the partition, or the records, that the failure speaks of. */
const timelineOf = ({ trace, violations }: Result): ReadonlyArray<string> => {
  const detail = violations[0]?.detail ?? ""
  const end = trace.findIndex((line) => / CHECK +/.test(line))
  const lines = trace.slice(0, end < 0 ? undefined : end + 1)
  const partitions = detail.match(/\bt\d+\/\d+/g) ?? []
  const offsets = new Set([...detail.matchAll(/@(\d+)|\b(\d+) of\b/g)].map((found) => found[1] ?? found[2]!))
  const ofPartition = (line: string) => partitions.some((key) => line.includes(`${key}@`) || line.includes(`${key}#`))
  const ofRecord = (line: string) => [...offsets].some((offset) => new RegExp(`@${offset}\\b`).test(line))
  const keep = (fits: (line: string) => boolean): ReadonlyArray<string> =>
    lines.filter((line) => (handling.test(line) ? fits(line) : always.test(line)))
  const wide = keep(partitions.length === 0 ? () => true : ofPartition)
  const narrow =
    wide.length <= mostLines || offsets.size === 0 ? wide : keep((line) => ofPartition(line) && ofRecord(line))
  return narrow.length <= mostLines
    ? narrow
    : [`(${narrow.length - mostLines} lines before)`, ...narrow.slice(-mostLines)]
}

export const tell = ({ cut, result, steps }: Shrunk): ReadonlyArray<string> => {
  const [first] = result.violations
  return [
    `seed ${result.seed}, ${steps} steps left: ${first?.invariant}: ${first?.detail}`,
    `  replay: ${replayOf(result.seed, cut)}`,
    ...describePlan(result.seed, cut).map((line) => `  ${line}`),
    ...timelineOf(result).map((line) => `    ${line}`)
  ]
}
