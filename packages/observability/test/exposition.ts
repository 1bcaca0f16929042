/** Prometheus' text format, read back. */

export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

const line = /^(\w+)(?:\{(.*)\})? (\S+)$/
const label = /(\w+)="((?:[^"\\]|\\.)*)"/g

export const samplesOf = (text: string): ReadonlyArray<Sample> =>
  text
    .split("\n")
    .filter((one) => one !== "" && !one.startsWith("#"))
    .map((one) => {
      const [, name, labels = "", value] = line.exec(one) ?? []
      if (name === undefined) throw new Error(`not a sample: ${one}`)
      return {
        name,
        labels: Object.fromEntries([...labels.matchAll(label)].map(([, key, text]) => [key!, text!])),
        value: Number(value!.replace("Inf", "Infinity"))
      }
    })

export interface Family {
  readonly name: string
  readonly type: string
  readonly help: string
}

export const familiesOf = (text: string): ReadonlyArray<Family> =>
  [...text.matchAll(/^# HELP (\w+) (.*)\n# TYPE \w+ (\w+)$/gm)].map(([, name = "", help = "", type = ""]) => ({
    name,
    type,
    help
  }))

/** The one sample of this name that has these labels among its own; `""`: does not have it. */
export const valueOf = (
  text: string,
  name: string,
  labels: Readonly<Record<string, string>> = {}
): number | undefined => {
  const found = samplesOf(text).filter(
    (sample) =>
      sample.name === name && Object.entries(labels).every(([key, value]) => (sample.labels[key] ?? "") === value)
  )
  if (found.length > 1) throw new Error(`${found.length} samples of ${name} ${JSON.stringify(labels)}`)
  return found[0]?.value
}
