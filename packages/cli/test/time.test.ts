import { assert, describe, it } from "@effect/vitest"
import { execFileSync } from "node:child_process"
import { join } from "node:path"

const path = join(import.meta.dirname, "..", "src", "internal", "time.ts")

/** As a process in that time zone reads it. */
const read = (zone: string, ...texts: ReadonlyArray<string>): ReadonlyArray<string | null> => {
  const program = `
    import { timeOf } from ${JSON.stringify(path)}
    const shown = (millis) => millis === undefined ? null : new Date(millis).toISOString()
    console.log(JSON.stringify(${JSON.stringify(texts)}.map((text) => shown(timeOf(text)))))`
  const env = { ...process.env, TZ: zone }
  return JSON.parse(
    execFileSync(process.execPath, ["--input-type=module", "-e", program], { env, encoding: "utf8" })
  ) as ReadonlyArray<string | null>
}

describe("a time on the command line", () => {
  it("is local time unless it says otherwise, with and without a time of day", () => {
    const texts = ["2026-11-21", "2026-11-21T00:00", "2026-11-21 06:30:01.5", "2026-11-21T00:00Z", "2026-07-01"]
    assert.deepStrictEqual(read("America/New_York", ...texts), [
      "2026-11-21T05:00:00.000Z",
      "2026-11-21T05:00:00.000Z",
      "2026-11-21T11:30:01.500Z",
      "2026-11-21T00:00:00.000Z",
      "2026-07-01T04:00:00.000Z"
    ])
    assert.deepStrictEqual(read("UTC", "2026-11-21", "2026-11-21T00:00+01:00"), [
      "2026-11-21T00:00:00.000Z",
      "2026-11-20T23:00:00.000Z"
    ])
  })

  it("is refused where there is no such day or time", () => {
    const bad = ["2026-02-30", "2026-02-29", "2026-04-31T10:00", "2026-13-01", "2026-00-10", "2026-01-00", "12", ""]
    const worse = ["2026-01-01T25:00", "2026-01-01T10:60", "2026-1-1", "yesterday"]
    for (const zone of ["UTC", "Asia/Tokyo"]) {
      assert.deepStrictEqual(
        read(zone, ...bad, ...worse),
        [...bad, ...worse].map(() => null)
      )
      assert.deepStrictEqual(read(zone, "2028-02-29Z", "2028-02-29T12:00Z"), [null, "2028-02-29T12:00:00.000Z"])
    }
  })
})
