/** The live page of the demo, without any Kafka and without a browser. */
import { assert, describe, it } from "@effect/vitest"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll } from "vitest"
import { runDemo } from "./child.ts"

const state = mkdtempSync(join(tmpdir(), "quickstart-page-"))
afterAll(() => rmSync(state, { recursive: true, force: true }))

const main = join(import.meta.dirname, "..", "src", "main.ts")

describe("the demo with --page", () => {
  it(
    "says where the page is, serves it while the consumers work, and ends at SIGINT",
    { timeout: 30_000 },
    async () => {
      const child = spawn(process.execPath, [main, "--page", "--memory", "--port", "0", "--state", state])
      let output = ""
      child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text))
      child.stderr.setEncoding("utf8").on("data", (text: string) => (output += text))
      while (!output.includes("Ctrl-C ends it") && child.exitCode === null) await once(child.stdout, "data")
      const [url = ""] = /http:\S+/.exec(output) ?? []
      const html = await (await fetch(url, { headers: { connection: "close" } })).text()
      assert.include(html, "<title>concurrent-kafka</title>")
      const events = await fetch(`${url}events`)
      const [started] = [performance.now(), child.kill("SIGINT")]
      assert.include(await events.text(), `"name":"shipping"`)
      const [code] = child.exitCode === null ? await once(child, "exit") : [child.exitCode]
      assert.strictEqual(code, 130, output)
      assert.isBelow(performance.now() - started, 5_000)
    }
  )

  it("has nothing to resume", async () => {
    const { code, stderr } = await runDemo(["--page", "--resume", "--state", state])
    assert.strictEqual(code, 1)
    assert.include(stderr, "--page shows work of its own")
  })
})
