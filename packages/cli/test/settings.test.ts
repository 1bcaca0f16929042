/** The command as a process, where it cannot begin. */
import { assert, describe, it } from "@effect/vitest"
import { spawnSync } from "node:child_process"
import { join } from "node:path"

const bin = join(import.meta.dirname, "..", "src", "internal", "bin.ts")

const run = (env: Readonly<Record<string, string>>, ...args: ReadonlyArray<string>) => {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("KAFKA_"))
  const { status, stderr, stdout } = spawnSync(
    process.execPath,
    [bin, "redrive", "--from", "a", "--to", "b", ...args],
    {
      env: { ...Object.fromEntries(inherited), ...env },
      encoding: "utf8"
    }
  )
  return { status, stdout, errors: stderr.split("\n").filter((line) => line.startsWith("error: ")) }
}

describe("concurrent-kafka redrive, where it cannot begin", () => {
  it.each([
    [
      {},
      "error: the setting KAFKA_BOOTSTRAP_SERVERS is missing or not accepted: not set; accepted: host:port, several with commas between them"
    ],
    [
      { KAFKA_BOOTSTRAP_SERVERS: "h" },
      'error: option KAFKA_BOOTSTRAP_SERVERS: "h" is not accepted; accepted: host:port with a host name, ' +
        "an IPv4 address or an IPv6 address in brackets, and a port of 1 to 65535"
    ],
    [
      { KAFKA_BOOTSTRAP_SERVERS: "h:1", KAFKA_SECURITY_PROTOCOL: "TLS" },
      'error: the setting KAFKA_SECURITY_PROTOCOL is missing or not accepted: Expected "PLAINTEXT" | "SSL" | ' +
        '"SASL_PLAINTEXT" | "SASL_SSL"'
    ]
  ])("a bad setting ends it with 2, by its name, and nothing is said to have been done: %j", (env, error) => {
    assert.deepStrictEqual(run(env, "--json"), { status: 2, stdout: "", errors: [error] })
    if (Object.keys(env).length === 0) assert.strictEqual(run(env).stdout, "")
  })

  it("with Kafka switched off it ends with 1, and says that nothing was sent", () => {
    assert.deepStrictEqual(run({ KAFKA_ENABLED: "false" }), {
      status: 1,
      stdout: "failed: nothing was sent\n",
      errors: ["error: Kafka is switched off (KAFKA_ENABLED=false)"]
    })
  })
})
