import { assert, describe, it } from "@effect/vitest"
import { unsupportedOn } from "./supported.ts"

describe("tests of a client that needs Node 22.22", () => {
  it.each(["20.19.0", "22.19.0", "22.21.1"])("are skipped on %s with the reason, and tried on CI", (version) => {
    assert.include(unsupportedOn(version, false), version)
    assert.include(unsupportedOn(version, false), "22.22")
    assert.isUndefined(unsupportedOn(version, true))
  })

  it.each(["22.22.0", "24.11.0"])("are tried on %s", (version) => {
    assert.isUndefined(unsupportedOn(version, false))
    assert.isUndefined(unsupportedOn(version, true))
  })
})
