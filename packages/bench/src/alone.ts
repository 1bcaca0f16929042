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

export const engineAlone: Bench = async ({ rounds, smoke }) => {
  const records = smoke ? 100_000 : 1_000_000
  const forms: ReadonlyArray<Name> = smoke
    ? ["fnUntraced"]
    : ["fnUntraced", "Effect.void", "Effect.gen", "a promise", "fnUntraced that suspends"]
  const kinds = forms.flatMap((form) => [`${form}, bare`, `${form}, unordered`, `${form}, by key`] as const)
  const micros = await interleaved(kinds, rounds, (kind, round) => {
    const [form, how] = kind.split(", ") as [Name, "bare" | "unordered" | "by key"]
    const work: Work = { ...works[form], ordering: how === "by key" ? "key" : "unordered" }
    return alone(kind, round, { system: how === "bare" ? "bare" : "engine", partitions, records, work })
  })
  return forms.flatMap((form) =>
    (
      [
        ["unordered", 2],
        ["by key", 4]
      ] as const
    ).map(([how, goal]) =>
      compare(
        { bench: `alone: ${form}, ${how}`, unit: "us of CPU a record", comparedWith: "a bare runFork" },
        micros(`${form}, ${how}`),
        micros(`${form}, bare`),
        atMost(smoke ? goal * 10 : goal)
      )
    )
  )
}
