/**
 * kafkajs sets timers in the past, and Node 24 warns of each with a `TimeoutNegativeWarning`. They do no harm: the timer fires at
 * once. Other warnings are printed as ever. The sessions of @concurrent-kafka/kafkajs set none; plain kafkajs does.
 */
export const ignoreNegativeTimeouts = (): void => {
  const printers = process.listeners("warning")
  process.removeAllListeners("warning")
  process.on("warning", (warning) => {
    if (warning.name !== "TimeoutNegativeWarning") for (const print of printers) print(warning)
  })
}
