/** Times as they are written on a command line. */

/** Not whatever `Date` makes sense of: `--since 12` would be the year 2001. */
const isoTime = /^(\d{4})-(\d{2})-(\d{2})([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,3})?)?(Z|[+-]\d{2}:\d{2})?)?$/

/** Milliseconds since 1970, of local time unless it says otherwise; `undefined` where there is no such day or time. */
export const timeOf = (text: string): number | undefined => {
  const [, year, month, day, time] = isoTime.exec(text) ?? []
  if (year === undefined) return undefined
  // `Date` takes 30 February for 2 March
  if (new Date(Date.UTC(Number(year), Number(month) - 1, Number(day))).getUTCDate() !== Number(day)) return undefined
  // and a day without a time for one of UTC
  const millis = Date.parse(time === undefined ? `${text}T00:00` : text)
  return Number.isNaN(millis) ? undefined : millis
}
