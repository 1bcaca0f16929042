/** Numbers and times as people read them. */

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 })

export const count = (n) => whole.format(n)

/** At most five characters: 999, 1.2k, 12k, 3.4M. */
export const short = (n) => {
  if (n < 1_000) return n < 10 && n % 1 !== 0 ? n.toFixed(1) : String(Math.round(n))
  for (const [unit, size] of [
    ["k", 1e3],
    ["M", 1e6],
    ["G", 1e9]
  ]) {
    const value = n / size
    if (value < 999.5 || unit === "G") return `${value < 9.95 ? value.toFixed(1) : Math.round(value)}${unit}`
  }
}

/** Of all partitions together: at least so much where the end of some is not known, and a question where it is of none. */
export const lagOf = ({ lag, partitions, unknown }) =>
  unknown === 0 ? short(lag) : unknown === partitions ? "?" : `${short(lag)}+`

/** What a chart has of it: a line at 0 would say that there is none. */
export const drawnLag = ({ lag, partitions, unknown }) => (partitions > 0 && unknown === partitions ? null : lag)

/** Of a rate, with a digit behind the point where it is small. */
export const rate = (n) => (n === 0 ? "0" : n < 10 ? n.toFixed(1) : n < 10_000 ? count(n) : short(n))

export const bytes = (n) => {
  if (n < 1_024) return `${n} B`
  for (const [unit, size] of [
    ["KiB", 1_024],
    ["MiB", 1_048_576],
    ["GiB", 1_073_741_824]
  ]) {
    const value = n / size
    if (value < 1_000 || unit === "GiB") return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ${unit}`
  }
}

export const millis = (n) => {
  if (n <= 0) return "0 ms"
  if (n < 1) return "< 1 ms"
  if (n < 9.95) return `${n.toFixed(1)} ms`
  if (n < 999.5) return `${Math.round(n)} ms`
  return n < 9_950 ? `${(n / 1_000).toFixed(1)} s` : age(n)
}

/** Whole seconds below two minutes, then the two greatest units. */
export const age = (n) => {
  const seconds = Math.max(0, Math.floor(n / 1_000))
  if (seconds < 120) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 120) return `${minutes} min`
  const hours = Math.floor(minutes / 60)
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`
}

/** Of a record: how long its state lasts, or how long its attempts have failed. It may have waited for its turn much longer. */
export const oldLevel = ({ firstFailedAt, since }, now) => {
  const millis = now - (firstFailedAt ?? since)
  return millis >= 60_000 ? "3" : millis >= 10_000 ? "2" : "0"
}

export const clock = (at) => new Date(at).toLocaleTimeString("en-GB")

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`
