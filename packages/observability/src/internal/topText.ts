/**
 * Text for a terminal: what it takes of a line, cut to that, and without anything that a terminal would obey.
 */

const ellipsis = "\u2026"

/** Names and messages may be anybody's input: an escape sequence, a line break or a change of direction must not reach the terminal. */
export const neutral = (text: string): string => text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "?")

/** First and last code points that take two columns: East Asian wide and full width, and emoji. */
const wide: ReadonlyArray<readonly [first: number, last: number]> = [
  [0x1100, 0x115f],
  [0x231a, 0x231b],
  [0x23e9, 0x23f3],
  [0x2614, 0x2615],
  [0x2648, 0x2653],
  [0x26a1, 0x26a1],
  [0x2705, 0x2705],
  [0x2728, 0x2728],
  [0x274c, 0x274e],
  [0x2753, 0x2757],
  [0x2795, 0x2797],
  [0x2b1b, 0x2b1c],
  [0x2b50, 0x2b55],
  [0x2e80, 0x303e],
  [0x3041, 0xa4cf],
  [0xa960, 0xa97f],
  [0xac00, 0xd7a3],
  [0xf900, 0xfaff],
  [0xfe30, 0xfe6f],
  [0xff00, 0xff60],
  [0xffe0, 0xffe6],
  [0x16fe0, 0x18d08],
  [0x1b000, 0x1b2fb],
  [0x1f004, 0x1f004],
  [0x1f0cf, 0x1f0cf],
  [0x1f18e, 0x1f19a],
  [0x1f1e6, 0x1f265],
  [0x1f300, 0x1f64f],
  [0x1f680, 0x1f6ff],
  [0x1f7e0, 0x1f7f0],
  [0x1f900, 0x1faff],
  [0x20000, 0x3fffd]
]

const combining = /^[\p{M}\p{Cf}]$/u

const widthOfOne = (character: string): number => {
  const code = character.codePointAt(0) ?? 0
  // most of what is shown
  if (code < 0x300) return 1
  if (combining.test(character)) return 0
  return wide.some(([first, last]) => first <= code && code <= last) ? 2 : 1
}

/** Columns. */
export const widthOf = (text: string): number => {
  let width = 0
  for (const character of text) width += widthOfOne(character)
  return width
}

const starting = (text: string, width: number): string => {
  let taken = 0
  let cut = ""
  for (const character of text) {
    taken += widthOfOne(character)
    if (taken > width) break
    cut += character
  }
  return cut
}

const ending = (text: string, width: number): string => {
  let taken = 0
  let cut = ""
  for (const character of Array.from(text).toReversed()) {
    taken += widthOfOne(character)
    if (taken > width) break
    cut = character + cut
  }
  return cut
}

/** At most so many columns; what was cut off shows at the end. */
export const fit = (text: string, width: number): string => {
  if (widthOf(text) <= width) return text
  return width < 1 ? "" : `${starting(text, width - 1)}${ellipsis}`
}

/** The same, cut in the middle: of two names that begin alike the ends say which is which. */
export const fitMiddle = (text: string, width: number): string => {
  if (widthOf(text) <= width) return text
  if (width < 1) return ""
  const behind = Math.ceil((width - 1) / 2)
  return `${starting(text, width - 1 - behind)}${ellipsis}${ending(text, behind)}`
}

export const padEnd = (text: string, width: number): string => text + " ".repeat(Math.max(0, width - widthOf(text)))
export const padStart = (text: string, width: number): string => " ".repeat(Math.max(0, width - widthOf(text))) + text

/** Items side by side in as few lines as it takes, none cut unless it is wider than a line. */
export const wrapped = (items: ReadonlyArray<string>, width: number): ReadonlyArray<string> => {
  const lines: Array<string> = []
  let line = ""
  for (const item of items) {
    const longer = line === "" ? item : `${line}  ${item}`
    if (line !== "" && widthOf(longer) > width) {
      lines.push(line)
      line = item
    } else line = longer
  }
  if (line !== "") lines.push(line)
  return lines.map((one) => fit(one, width))
}

export const more = (count: number, of = ""): string => `${ellipsis} ${grouped(count)} more${of}`

/** 1,234,567 */
export const grouped = (n: number | bigint): string => String(n).replace(/\B(?=(\d{3})+$)/g, ",")

/** A second. */
export const rated = (rate: number | undefined): string =>
  rate === undefined ? "-" : rate >= 100 || Number.isInteger(rate) ? grouped(Math.round(rate)) : rate.toFixed(1)

const second = 1_000
const minute = 60 * second
const hour = 60 * minute
const day = 24 * hour

/** Two units at most. */
export const lasting = (millis: number): string => {
  if (millis < second) return `${Math.max(0, Math.round(millis))} ms`
  if (millis < 10 * second) return `${(millis / second).toFixed(1)} s`
  if (millis < minute) return `${Math.floor(millis / second)} s`
  const [unit, name, smaller, smallerName] =
    millis < hour
      ? ([minute, "m", second, "s"] as const)
      : millis < day
        ? ([hour, "h", minute, "m"] as const)
        : ([day, "d", hour, "h"] as const)
  return `${Math.floor(millis / unit)} ${name} ${Math.floor((millis % unit) / smaller)} ${smallerName}`
}

const mebi = 1024 * 1024

export const mebibytes = (bytes: number): string => {
  const value = bytes / mebi
  return value >= 10 || Number.isInteger(value) ? grouped(Math.round(value)) : value.toFixed(1)
}
