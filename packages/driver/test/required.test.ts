import { assert, describe, it } from "@effect/vitest"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { required } from "./required.ts"

const packages = join(import.meta.dirname, "..", "..")
const read = (folder: string, isWanted: (name: string) => boolean) =>
  readdirSync(join(packages, folder))
    .filter(isWanted)
    .map((name) => readFileSync(join(packages, folder, name), "utf8"))
    .join("\n")

const contract = read("testing/src/internal/contract", () => true)
/** The one that takes both clients at once. */
const mixed = "mixed"
const sourceOf = (suite: string) => {
  if (suite === "contract") return contract
  const file = suite === mixed ? "mixed.broker.test.ts" : `suites/${suite}.ts`
  return readFileSync(join(packages, "driver/test", file), "utf8")
}

/** Every package that has a client to try. */
const clients = readdirSync(packages).filter(
  (name) => name !== "driver" && readdirSync(join(packages, name)).includes("test") && hasClient(name)
)
function hasClient(name: string): boolean {
  return readdirSync(join(packages, name, "test")).includes("client.ts")
}

describe("what no client may leave untried", () => {
  it("there are clients", () => {
    assert.includeMembers(clients, ["kafkajs", "platformatic"])
  })

  it.each(required.flatMap(({ promise, tests }) => tests.map(([suite, name]) => ({ promise, suite, name }))))(
    "$promise: $suite: $name",
    ({ name, suite }) => {
      const source = sourceOf(suite)
      const found = source.replaceAll("`", '"').split(`"${name}`).length - 1
      assert.strictEqual(found, 1, `there is one test in ${suite} whose name begins so`)
    }
  )

  const suites = [...new Set(required.flatMap(({ tests }) => tests.map(([suite]) => suite)))].filter(
    (suite) => suite !== mixed
  )
  it.each(clients.flatMap((client) => suites.map((suite) => ({ client, suite }))))(
    "$client runs $suite on a real broker",
    ({ client, suite }) => {
      const files = read(`${client}/test`, (name) => name.endsWith(".broker.test.ts"))
      assert.include(files, `from "../../driver/test/suites/${suite}.ts"`)
      assert.match(files, new RegExp(`^${suite}\\(client(, "classic")?\\)$`, "m"))
    }
  )
})
