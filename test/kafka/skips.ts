/** Tests are skipped where a machine has nothing to run them with; with `CI` set they fail instead. */
import type { KafkaUnavailable } from "./java.ts"

/** Whether nothing may be skipped because this machine lacks it. */
export const onCi = (process.env["CI"] ?? "") !== "" && process.env["CI"] !== "false"

/** Throws unless tests may be skipped for this reason. */
export const refuseSkips = (what: string, { missing, reason }: KafkaUnavailable): void => {
  if (onCi || !missing) throw new Error(`No ${what}: ${reason}`)
}
