/** Writes a map: the smallest form, compressed where that is smaller, cut where it does not fit. */
import type { OffsetMap } from "../OffsetMap.ts"
import { base64Capacity, base64Length, toBase64 } from "./base64.ts"
import { checkBytes, checkOf } from "./mapCheck.ts"
import { bitsCapacity, compressedMagic, type Form, formSize, maxInflated, writeForm } from "./mapForms.ts"

type Place = OffsetMap.Place
type Zstd = OffsetMap.Zstd
type Encoded = OffsetMap.Encoded

/** a shorter map is not worth compressing */
const smallBytes = 200

/** the part in front of an offset */
const before = (runs: ReadonlyArray<number>, length: number): ReadonlyArray<number> => {
  let i = runs.length
  while (i > 0 && runs[i - 2]! >= length) i -= 2
  if (i === 0) return []
  return runs[i - 1]! <= length ? (i === runs.length ? runs : runs.slice(0, i)) : [...runs.slice(0, i - 1), length]
}

const lengthOf = (runs: ReadonlyArray<number>): number => runs[runs.length - 1] ?? 0

/** Magic and body, with the check behind them unless there is nobody to check. */
const seal = (form: Form, runs: ReadonlyArray<number>, place: Place | undefined): Uint8Array => {
  const payload = writeForm(form, runs, lengthOf(runs), place === undefined ? 0 : checkBytes)
  if (place === undefined) return payload
  const end = payload.length - checkBytes
  const check = checkOf(place.topic, place.partition, place.base, payload.subarray(0, end))
  payload[end] = check >> 16
  payload[end + 1] = check >> 8
  payload[end + 2] = check
  return payload
}

const bitForms = ["bits16", "bits32"] as const
const forms = ["bits16", "bits32", "runs32"] as const

const smallest = (runs: ReadonlyArray<number>): { readonly form: Form; readonly size: number } => {
  let form: Form = "runs32"
  let size = Number.POSITIVE_INFINITY
  for (const each of forms) {
    const itsSize = formSize(each, lengthOf(runs), runs.length / 2)
    if (itsSize < size) {
      form = each
      size = itsSize
    }
  }
  return { form, size }
}

/** The smaller of what the two kinds are compressed into; `undefined` when neither may be written. */
const squeeze = (runs: ReadonlyArray<number>, place: Place | undefined, zstd: Zstd): Uint8Array | undefined => {
  let best: Uint8Array | undefined
  const length = lengthOf(runs)
  for (const form of [length <= bitsCapacity("bits16", maxInflated) ? "bits16" : "bits32", "runs32"] as const) {
    // who reads it takes no more
    if (formSize(form, length, runs.length / 2) + checkBytes > maxInflated) continue
    const packed = zstd.compress(seal(form, runs, place).subarray(1))
    if (best !== undefined && best.length <= packed.length + 1) continue
    best = new Uint8Array(packed.length + 1)
    best[0] = compressedMagic[form]
    best.set(packed, 1)
  }
  return best
}

/** `place` is left out by who compares with the Java library, which writes no check. */
export const writeMap = (
  runs: ReadonlyArray<number>,
  limit: number,
  place: Place | undefined,
  zstd: Zstd | undefined
): Encoded => {
  const length = lengthOf(runs)
  if (length === 0) return { metadata: "", length: 0, cut: false }
  const behind = place === undefined ? 0 : checkBytes
  const room = base64Capacity(limit)
  const { form, size } = smallest(runs)
  const packed = zstd !== undefined && size >= smallBytes ? squeeze(runs, place, zstd) : undefined
  if (packed !== undefined && packed.length < size + behind && packed.length <= room) {
    return { metadata: toBase64(packed), length, cut: false }
  }
  if (size + behind <= room) return { metadata: toBase64(seal(form, runs, place)), length, cut: false }
  return cutToFit(runs, room, place, size >= smallBytes ? zstd : undefined)
}

/** The longest range from the base that fits. */
const cutToFit = (
  runs: ReadonlyArray<number>,
  room: number,
  place: Place | undefined,
  zstd: Zstd | undefined
): Encoded => {
  const behind = place === undefined ? 0 : checkBytes
  // whole runs as far as they fit, or bits as far as they fit, which may end inside of a run
  let best = before(runs, longestRuns(runs, room - behind))
  for (const form of bitForms) {
    const bits = before(runs, Math.max(0, bitsCapacity(form, room - behind)))
    if (lengthOf(bits) > lengthOf(best)) best = bits
  }
  let payload = lengthOf(best) === 0 ? undefined : seal(smallest(best).form, best, place)
  if (zstd !== undefined) {
    // compressed it may reach further: between what fits plainly and the whole
    let fits = best.length / 2
    let tooMany = runs.length / 2
    while (tooMany - fits > 1) {
      const middle = (fits + tooMany) >> 1
      const some = runs.slice(0, 2 * middle)
      const packed = squeeze(some, place, zstd)
      if (packed !== undefined && packed.length <= room) {
        fits = middle
        best = some
        payload = packed
      } else tooMany = middle
    }
  }
  return { metadata: payload === undefined ? "" : toBase64(payload), length: lengthOf(best), cut: true }
}

/** where the last run ends of those that fit as run lengths */
const longestRuns = (runs: ReadonlyArray<number>, bytes: number): number => {
  let pairs = Math.min(runs.length / 2, Math.floor((bytes - 1) / 8))
  while (pairs > 0 && formSize("runs32", runs[2 * pairs - 1]!, pairs) > bytes) pairs--
  return pairs <= 0 ? 0 : runs[2 * pairs - 1]!
}

/** How many characters a map becomes that is neither cut nor compressed: so many offsets, of which so many runs are done. */
export const plainCharacters = (length: number, pairs: number): number => {
  if (pairs === 0) return 0
  const bits = Math.min(formSize("bits16", length, pairs), formSize("bits32", length, pairs))
  return base64Length(Math.min(bits, formSize("runs32", length, pairs)) + checkBytes)
}
