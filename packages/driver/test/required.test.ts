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
const mixed = "mixed.broker.test.ts"
const folder = join(packages, "driver/test")
const files = [mixed, ...readdirSync(join(folder, "suites")).map((name) => `suites/${name}`)].map((name) => ({
  name,
  source: readFileSync(join(folder, name), "utf8")
}))

/** Where the suite of this name is. */
const fileOf = (suite: string) => {
  const found = files.filter(({ source }) => source.includes(`"${suite}"`))
  assert.strictEqual(found.length, 1, `there is one suite called ${suite}`)
  return found[0]!
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
      const source = suite === "contract" ? contract : fileOf(suite).source
      const found = source.replaceAll("`", '"').split(`"${name}`).length - 1
      assert.strictEqual(found, 1, `there is one test in ${suite} whose name begins so`)
    }
  )

  const tried = [...new Set(required.flatMap(({ tests }) => tests.map(([suite]) => fileOf(suite).name)))].filter(
    (name) => name !== mixed
  )
  it.each(clients.flatMap((client) => tried.map((name) => ({ client, name }))))(
    "$client runs $name on a real broker",
    ({ client, name }) => {
      const tests = read(`${client}/test`, (file) => file.endsWith(".broker.test.ts"))
      assert.include(tests, `from "../../driver/test/${name}"`)
      const suite = name.slice("suites/".length, -".ts".length)
      assert.match(tests, new RegExp(`^${suite}\\(client(, "classic")?\\)$`, "m"))
    }
  )
})
