import { assert, describe, it } from "@effect/vitest"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"

/**
 * The scenarios of rebalances, shutdowns, lost and moved logs that the engine has to stand, by number. What is missing between them
 * belongs to batch handlers, static membership and tracing.
 */
const scenarios: Readonly<Record<number, string>> = {
  1: "an eager rebalance, partitions retained, a drain that runs",
  2: "a drain that hits its deadline and comes back retained",
  3: "a hold that is shorter than the drain",
  4: "a second revoke before the assignment",
  5: "a generation missed",
  6: "lost while draining",
  7: "shutdown by interrupt",
  8: "shutdown by drain with one slow handler",
  9: "a rebalance during shutdown",
  10: "closing while suspended",
  11: "a retry that waits when a revoke or the close comes",
  12: "parked, and a revoke",
  13: "a handler that ignores interruption completes in a later epoch",
  14: "stop in one partition, others in flight",
  15: "one stuck record",
  16: "a map that is too large",
  17: "many maps in one request",
  18: "a map with filtered records, holes, markers",
  19: "a broker that takes less metadata",
  20: "metadata of a foreign tool",
  21: "metadata copied by MirrorMaker",
  22: "a committed offset out of range",
  23: "retention cuts under records in flight",
  24: "truncation after an unclean leader election",
  25: "seek by the user",
  26: "the user's pause against ours",
  27: "a topic deleted",
  28: "a topic deleted and created again",
  29: "partitions are added",
  30: "a topic created late",
  31: "a regular expression as a topic",
  32: "a process that stood still goes on",
  33: "a commit whose answer is lost",
  34: "two consumers of one group in one process",
  35: "a group that is used with another assignor or protocol",
  36: "an instance id that is used twice",
  37: "session timeout against long handlers",
  38: "an event loop that is blocked longer than the session lives",
  39: "the dead-letter topic is down for long",
  40: "a dead letter, and the order of its commit",
  41: "dead-lettering during the drain of a revoke",
  42: "a dead-letter topic that is subscribed to",
  47: "an exact revocation while others run",
  50: "data of a record in what is told of its failure",
  51: "liveness",
  52: "a thousand partitions",
  53: "concurrency lowered below what runs",
  54: "policy or filter throws",
  55: "run called twice, or interrupted"
}

/** What always holds. */
const invariants = ["I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11", "I12"]

const root = join(import.meta.dirname, "../../..")

const testFiles = (folder: string): ReadonlyArray<string> =>
  readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (entry.name === "node_modules" || entry.name === "dist") return []
    const path = join(folder, entry.name)
    return entry.isDirectory() ? testFiles(path) : entry.name.endsWith(".test.ts") ? [path] : []
  })

/** the first argument of each `it(...)`, `it.effect(...)` and so on */
const titlesOf = (source: string): ReadonlyArray<string> =>
  [...source.matchAll(/\bit(?:\.\w+)*\(\s*(["'`])((?:(?!\1)[^\\]|\\.)*)\1/g)].map((match) => match[2]!)

describe("titles", () => {
  const titles = ["packages", "test"].flatMap((folder) =>
    testFiles(join(root, folder)).flatMap((file) => titlesOf(readFileSync(file, "utf8")))
  )
  const named = (name: string) => titles.some((title) => new RegExp(`\\b${name}\\b`).test(title))

  it("every scenario has a test that names its number", () => {
    const missing = Object.entries(scenarios).filter(([number]) => !named(`D${number}`))
    assert.deepStrictEqual(missing, [])
  })

  it("every invariant has a test that names it", () => {
    assert.deepStrictEqual(
      invariants.filter((name) => !named(name)),
      []
    )
  })
})
