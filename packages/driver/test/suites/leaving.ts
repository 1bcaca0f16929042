/** Suite: nothing of a closed client keeps its program alive. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { inject } from "vitest"
import { type Client, type GroupProtocol, suiteIn } from "../client.ts"
import { numbers } from "../members.ts"
import { world } from "../operator.ts"

const run = (client: Client, groupProtocol: GroupProtocol, topic: string, how: string) =>
  Effect.callback<{ readonly code: number | null; readonly out: string; readonly err: string; readonly after: number }>(
    (resume) => {
      const script = fileURLToPath(new URL("leavingProgram.ts", import.meta.url))
      const args = [client.module, inject("brokers").join(","), groupProtocol, topic, how]
      const child = spawn(process.execPath, [script, ...args], {
        env: { ...process.env, FORCE_COLOR: "0" }
      })
      let out = ""
      let err = ""
      let closed = 0
      child.stdout.on("data", (data) => {
        out += data
        if (out.includes("closed")) closed ||= performance.now()
      })
      child.stderr.on("data", (data) => (err += data))
      child.on("close", (code) => resume(Effect.succeed({ code, out, err, after: performance.now() - closed })))
      return Effect.sync(() => child.kill("SIGKILL"))
    }
  )

/** Those that differ in the group protocol: how the last heartbeat goes, and what a join that is under way leaves behind. */
const ofMembers = ["close", "leave", "joining"]

export const leaving = (client: Client, groupProtocol: GroupProtocol = "classic"): void => {
  suiteIn(client, groupProtocol, "a program that has closed its session", () => {
    it.live.each(groupProtocol === "classic" ? [...ofMembers, "fail", "waiting", "producing"] : ofMembers)(
      "ends by itself, without a socket, a timer or a warning left (%s)",
      (how) =>
        Effect.gen(function* () {
          const kafka = yield* world(inject("brokers"))
          const topic = yield* kafka.topic(2)
          for (const partition of [0, 1]) yield* kafka.send(topic, partition, numbers(0, 100))
          const { after, code, err, out } = yield* run(client, groupProtocol, topic, how)
          assert.strictEqual(err, "")
          assert.strictEqual(code, 0)
          assert.strictEqual(out, "closed []\n")
          assert.isBelow(after, 1000)
        }).pipe(Effect.scoped),
      30_000
    )
  })
}
