/** What the document says of spans, held against the code. */
import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { attemptOutcomes } from "../src/internal/attemptSpans.ts"
import { Attribute } from "../src/internal/spans.ts"

describe("docs/traces.md", () => {
  it("names every attribute and every outcome, and no other", () => {
    const text = readFileSync(join(import.meta.dirname, "..", "..", "..", "docs", "traces.md"), "utf8")
    const [, below = ""] = text.split("<!-- attributes -->\n")
    const rows = below
      .split("\n\n")[0]!
      .split("\n")
      .slice(2)
      .map((row) => row.slice(2, -2).split(" | "))
    assert.sameMembers(
      rows.map(([name]) => name!.replaceAll("`", "")),
      Object.values(Attribute)
    )
    const outcome = rows.find(([name]) => name === `\`${Attribute.outcome}\``)!.at(-1)!
    assert.sameMembers(
      [...outcome.matchAll(/`(\w+)`/g)].map(([, name]) => name!),
      [...attemptOutcomes]
    )
  })
})
