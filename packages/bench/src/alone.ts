/** What the engine alone costs, with records from memory, beside a fiber for each record and a counter. */
import { alone } from "./aloneTask.ts"
import { atMost, type Bench, compare } from "./report.ts"
import { interleaved } from "./rounds.ts"
import type { Work } from "./job.ts"

const partitions = 12

const works = {
  fnUntraced: {},
  "Effect.void": { form: "void" },
  "Effect.gen": { form: "gen" },
  "a promise": { form: "promise" },
  "fnUntraced that suspends": { form: "yields" }
} as const satisfies Record<string, Work>

type Name = keyof typeof works

const forms: ReadonlyArray<Name> = ["fnUntraced", "Effect.void", "Effect.gen", "a promise", "fnUntraced that suspends"]

export const engineAlone: Bench = async ({ rounds, smoke }) => {
  const records = smoke ? 100_000 : 1_000_000
  const compared = forms
    .filter((form) => form === "fnUntraced" || !smoke)
    .flatMap((form) => [
      { form, how: "unordered", goal: 2 } as const,
      // what a lane costs does not depend on how the handler is written
      ...(form === "fnUntraced" ? [{ form, how: "by key", goal: 4 } as const] : [])
    ])
  const kinds = [
    ...new Set(compared.map(({ form }) => form)),
    ...compared.map(({ form, how }) => `${form}, ${how}` as const)
  ]
  const micros = await interleaved(kinds, rounds, (kind, round) => {
    const found = compared.find(({ form, how }) => kind === `${form}, ${how}`)
    if (found === undefined) {
      const form = forms.find((one) => one === kind)!
      return alone(`${kind}, bare`, round, { system: "bare", partitions, records, work: works[form] })
    }
    const work: Work = { ...works[found.form], ordering: found.how === "by key" ? "key" : "unordered" }
    return alone(kind, round, { system: "engine", partitions, records, work })
  })
  return compared.map(({ form, goal, how }) =>
    compare(
      { bench: `alone: ${form}, ${how}`, unit: "us of CPU a record", comparedWith: "a bare runFork" },
      micros(`${form}, ${how}`),
      micros(form),
      atMost(smoke ? goal * 10 : goal)
    )
  )
}
