import { assert, describe, it } from "@effect/vitest"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { type Client, type GroupProtocol, protocolsOf } from "./client.ts"
import { required, type Way, wantedOf } from "./required.ts"

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
const sources = [mixed, ...readdirSync(join(folder, "suites")).map((name) => `suites/${name}`)].map((name) => ({
  name,
  source: readFileSync(join(folder, name), "utf8")
}))

/** Where the suite of this name is. */
const fileOf = (suite: string) => {
  const found = sources.filter(({ source }) => source.includes(`"${suite}"`))
  assert.strictEqual(found.length, 1, `there is one suite called ${suite}`)
  return found[0]!
}

/** Every package that has a client to try. */
const names = readdirSync(packages).filter(
  (name) => name !== "driver" && readdirSync(join(packages, name)).includes("test") && hasClient(name)
)
function hasClient(name: string): boolean {
  return readdirSync(join(packages, name, "test")).includes("client.ts")
}
const clients = await Promise.all(
  names.map(async (name) => {
    const { client }: { readonly client: Client } = await import(join(packages, name, "test", "client.ts"))
    return { name, protocols: protocolsOf(client) }
  })
)

/** How a suite is called in each of the ways. */
const calls: Readonly<Record<Way, string>> = {
  eager: '\\(client(, "(classic|eager)")?\\)',
  cooperative: '\\(client, "cooperative"\\)',
  consumer: '\\(client, "(consumer|incremental)"\\)'
}

describe("what no client may leave untried", () => {
  it("there are clients, and one of them has the consumer protocol", () => {
    assert.includeMembers(names, ["kafkajs", "platformatic"])
    assert.isTrue(clients.some(({ protocols }) => protocols.includes("consumer")))
  })

  it.each(
    required.flatMap(({ promise, tests }) =>
      tests.map(([suite, name, { each } = {}]) => ({ promise, suite, name, each }))
    )
  )("$promise: $suite: $name", ({ each, name, suite }) => {
    const source = suite === "contract" ? contract : fileOf(suite).source
    const found = source.replaceAll("`", '"').split(`"${name}`).length - 1
    assert.strictEqual(found, 1, `there is one test in ${suite} whose name begins so`)
    assert.strictEqual(/%[sd]/.test(name), each !== undefined, "each of its cases is named")
    const cases = each === undefined || each === "protocols" ? [] : each
    for (const one of cases) assert.match(source, new RegExp(`["[]${one}["\\],]`), `${one} is a case`)
  })

  const wanted = clients.flatMap(({ name, protocols }) =>
    wantedOf(protocols).map((test) => ({ client: name, ...test }))
  )
  const files = Map.groupBy(
    wanted
      .map(({ client, suite, way }) => ({ client, way, file: fileOf(suite).name }))
      .filter(({ file }) => file !== mixed),
    ({ client, file, way }) => `${client} runs ${file}, ${way}, on a real broker`
  )
  it.each([...files].map(([title, [one]]) => ({ title, ...one! })))("$title", ({ client, file, way }) => {
    const tests = read(`${client}/test`, (name) => name.endsWith(".broker.test.ts"))
    assert.include(tests, `from "../../driver/test/${file}"`)
    const suite = file.slice("suites/".length, -".ts".length)
    // what is run in one way takes none
    const ways = new Set(wanted.filter((one) => fileOf(one.suite).name === file).map((one) => one.way))
    assert.match(tests, new RegExp(`^${suite}${calls[ways.size === 1 ? "eager" : way]}$`, "m"))
  })

  it("asks more of a client that has more", () => {
    const list = [
      {
        promise: "all",
        tests: [
          ["contract", "one"],
          ["contract", "classic alone", { only: ["eager"] }],
          ["the consumer protocol", "two"],
          ["codecs", "reads %s", { each: ["gzip", "zstd"] }],
          ["outages", "heal (%s)", { each: "protocols" }]
        ]
      }
    ] as const
    const titles = (protocols: ReadonlyArray<GroupProtocol>) =>
      wantedOf(protocols, list).map(({ named, title }) => `${named}: ${title}`)
    const classic = [
      "contract: one",
      "contract, cooperative: one",
      "contract: classic alone",
      "codecs: reads gzip",
      "codecs: reads zstd",
      "outages: heal (classic)"
    ]
    assert.deepStrictEqual(titles(["classic"]), classic)
    assert.sameMembers(titles(["classic", "consumer"]), [
      ...classic,
      "contract, consumer protocol: one",
      "the consumer protocol: two",
      "outages: heal (consumer)"
    ])
  })
})
