/** `parity.md` names tests that are there, for as many scenarios as it says. */
import { assert, describe, it } from "@effect/vitest"
import { existsSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"

const root = dirname(import.meta.dirname)
const text = readFileSync(join(import.meta.dirname, "parity.md"), "utf8")

interface Row {
  readonly scenario: string
  /** `undefined`: there is none, and the title is the reason. */
  readonly file: string | undefined
  readonly title: string
}

const rowsOf = (part: string): ReadonlyArray<Row> =>
  [...part.matchAll(/^\| `([^`]+)` \| (?:`([^`]+)`|none) \| (.+) \|$/gm)].map(
    ([, scenario = "", file, title = ""]) => ({
      scenario,
      file,
      title
    })
  )

const groups = [...text.matchAll(/^## (.+) \((\d+)\)\n([^#]*)/gm)].map(([, name = "", count = "", part = ""]) => ({
  name,
  count: Number(count),
  rows: rowsOf(part)
}))
const rows = groups.flatMap((group) => group.rows)

/** A title is the first argument of a test, or the first of a case of `it.each`. */
const hasTest = (source: string, title: string): boolean => {
  const escaped = title.replaceAll(/[$()*+.?[\\\]^{|}]/g, String.raw`\$&`)
  return new RegExp(`[([]\\s*(["\`])${escaped}\\1,`).test(source)
}

describe("parity.md", () => {
  it("has each scenario of each group once", () => {
    for (const group of groups) {
      assert.strictEqual(group.rows.length, group.count, group.name)
      assert.strictEqual(new Set(group.rows.map(({ scenario }) => scenario)).size, group.count, group.name)
    }
    assert.strictEqual(rows.length, 168)
  })

  it("says how many have no test, and why, which are no more than 30", () => {
    const none = rows.filter(({ file }) => file === undefined)
    assert.include(text, `\n${none.length} have none: `)
    assert.isAtMost(none.length, 30)
    for (const { title } of none) assert.match(title, /^(FastStream's|asyncio:) /)
  })

  it("names tests that are there", () => {
    for (const { file, scenario, title } of rows) {
      if (file === undefined) continue
      assert.isTrue(existsSync(join(root, file)), `${scenario}: ${file}`)
      assert.isTrue(hasTest(readFileSync(join(root, file), "utf8"), title), `${scenario}: ${file}: ${title}`)
    }
  })

  it("would not take a title that is only spoken of", () => {
    const source = `// "a title",\nit.effect("another title", () => "a third title")`
    assert.isTrue(hasTest(source, "another title"))
    for (const title of ["a title", "a third title", "another"]) assert.isFalse(hasTest(source, title), title)
  })
})
