/**
 * The forms in which the Java Parallel Consumer writes what of a partition is done: a bit for each offset, or the lengths of runs
 * that are in turn not done and done. All numbers are big-endian and signed; everything is relative to the base, the committed offset.
 *
 * Runs here are pairs `from`, `to` (without `to`) in one flat list, ascending, with gaps between them: what a map says is done. They
 * are never unrolled into single offsets, so that a map of some bytes cannot claim memory for two thousand million records.
 */
export const Magic = {
  bits16: 0x6c,
  bits32: 0x6f,
  runs16: 0x6e,
  runs32: 0x65,
  zstdBits16: 0x61,
  zstdBits32: 0x73,
  zstdRuns16: 0x4a,
  zstdRuns32: 0x70,
  /** declared, and read by nobody */
  byteArray: 0x4c,
  zstdByteArray: 0xee,
  /** of a fork of the Parallel Consumer */
  deltas: 0x64,
  zstdDeltas: 0x44,
  envelope: 0x58,
  /** versions of Kafka Streams' own metadata */
  streams1: 0x01,
  streams2: 0x02
} as const

/** the forms that are written: the third form of the Java library, 16 bits a run, has no room for our check */
export type Form = "bits16" | "bits32" | "runs32"

const maxShort = 0x7fff
const maxInt = 0x7fffffff

/** bytes of a body when it is decompressed: more is neither read nor written */
export const maxInflated = 65_536

/** what a form is compressed into */
export const compressedMagic = {
  bits16: Magic.zstdBits16,
  bits32: Magic.zstdBits32,
  runs32: Magic.zstdRuns32
} as const

/** what is inside of a compressed form */
export const inflatedMagic: Readonly<Record<number, number>> = {
  [Magic.zstdBits16]: Magic.bits16,
  [Magic.zstdBits32]: Magic.bits32,
  [Magic.zstdRuns16]: Magic.runs16,
  [Magic.zstdRuns32]: Magic.runs32
}

/** bytes of `length` offsets of which `pairs` runs are done, magic included; infinite where the form cannot say it */
export const formSize = (form: Form, length: number, pairs: number): number => {
  switch (form) {
    case "bits16":
      return length > maxShort ? Number.POSITIVE_INFINITY : 4 + Math.ceil(length / 8)
    case "bits32":
      return length > maxInt ? Number.POSITIVE_INFINITY : 6 + Math.ceil(length / 8)
    case "runs32":
      // a run too long for its number is cut in two, with nothing between them
      return 1 + 8 * pairs + 8 * Math.floor(length / maxInt)
  }
}

/** the most offsets that bits can speak of in so many bytes */
export const bitsCapacity = (form: "bits16" | "bits32", bytes: number): number =>
  form === "bits16" ? Math.min(maxShort, (bytes - 4) * 8) : Math.min(maxInt, (bytes - 6) * 8)

/** Magic and body; `room` more bytes are left behind them. */
export const writeForm = (form: Form, runs: ReadonlyArray<number>, length: number, room: number): Uint8Array =>
  form === "runs32" ? writeRuns(runs, length, room) : writeBits(form, runs, length, room)

const writeBits = (
  form: "bits16" | "bits32",
  runs: ReadonlyArray<number>,
  length: number,
  room: number
): Uint8Array => {
  const bytes = new Uint8Array(formSize(form, length, 0) + room)
  const view = new DataView(bytes.buffer)
  bytes[0] = Magic[form]
  if (form === "bits16") view.setInt16(1, length)
  else view.setInt32(1, length)
  const start = form === "bits16" ? 3 : 5
  for (let i = 0; i < runs.length; i += 2) {
    const to = runs[i + 1]!
    let bit = runs[i]!
    for (; bit < to && (bit & 7) !== 0; bit++) bytes[start + (bit >> 3)]! |= 1 << (bit & 7)
    for (; bit + 8 <= to; bit += 8) bytes[start + (bit >> 3)] = 0xff
    for (; bit < to; bit++) bytes[start + (bit >> 3)]! |= 1 << (bit & 7)
  }
  return bytes
}

const writeRuns = (runs: ReadonlyArray<number>, length: number, room: number): Uint8Array => {
  const lengths: Array<number> = []
  const add = (run: number): void => {
    let rest = run
    for (; rest > maxInt; rest -= maxInt) lengths.push(maxInt, 0)
    lengths.push(rest)
  }
  let at = 0
  for (let i = 0; i < runs.length; i += 2) {
    add(runs[i]! - at)
    at = runs[i + 1]!
    add(at - runs[i]!)
  }
  if (length > at) add(length - at)
  const bytes = new Uint8Array(1 + 4 * lengths.length + room)
  const view = new DataView(bytes.buffer)
  bytes[0] = Magic.runs32
  lengths.forEach((run, i) => view.setInt32(1 + 4 * i, run))
  return bytes
}

/** What a body says. */
export interface Content {
  readonly runs: Array<number>
  /** offsets that the body speaks of, from the base on */
  readonly length: number
  /** where what lies behind the body begins; `undefined` when nothing does */
  readonly behind: number | undefined
}

/** `trailing`: bytes that belong to nothing; a body is read wholly or not at all */
export type Broken = "truncated" | "negative" | "trailing"

const done = (runs: Array<number>, from: number, to: number): void => {
  if (from === to) return
  if (runs.length > 0 && runs[runs.length - 1] === from) runs[runs.length - 1] = to
  else runs.push(from, to)
}

/** A body of one of the two bit sets, without its magic, with `checkBytes` bytes behind it or none. */
export const readBits = (body: Uint8Array, wide: boolean, checkBytes: number): Content | Broken => {
  const header = wide ? 4 : 2
  if (body.length < header) return "truncated"
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength)
  const length = wide ? view.getInt32(0) : view.getInt16(0)
  if (length < 0) return "negative"
  const needed = header + Math.ceil(length / 8)
  if (body.length < needed) return "truncated"
  // the Java library writes one byte more than the bits need
  const checked = body.length === needed + 1 + checkBytes
  const end = checked ? needed + 1 : body.length
  if (end > needed + 1 || (end > needed && body[needed] !== 0)) return "trailing"
  if ((length & 7) !== 0 && body[needed - 1]! >> (length & 7) !== 0) return "trailing"
  const runs: Array<number> = []
  for (let i = header; i < needed; i++) {
    const byte = body[i]!
    const at = (i - header) * 8
    if (byte === 0) continue
    if (byte === 0xff) done(runs, at, at + 8)
    else for (let bit = 0; bit < 8; bit++) if ((byte >> bit) & 1) done(runs, at + bit, at + bit + 1)
  }
  return { runs, length, behind: checked ? end : undefined }
}

/** A body of run lengths, without its magic, with `checkBytes` bytes behind it or none. */
export const readRuns = (body: Uint8Array, wide: boolean, checkBytes: number): Content | Broken => {
  const width = wide ? 4 : 2
  const rest = body.length % width
  const checked = wide && rest === checkBytes && rest > 0
  if (rest !== 0 && !checked) return "trailing"
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength)
  const end = body.length - rest
  const runs: Array<number> = []
  let at = 0
  for (let i = 0, isDone = false; i < end; i += width, isDone = !isDone) {
    const run = wide ? view.getInt32(i) : view.getInt16(i)
    if (run < 0) return "negative"
    if (isDone) done(runs, at, at + run)
    at += run
  }
  return { runs, length: at, behind: checked ? end : undefined }
}
