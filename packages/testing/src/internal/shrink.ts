/**
 * The shortest list that still fails: parts of it are left out, half of it first, then smaller ones, down to single items, for as
 * long as something can be left out.
 */
export const shrink = async <A>(
  items: ReadonlyArray<A>,
  fails: (items: ReadonlyArray<A>) => Promise<boolean>,
  mayGoOn: () => boolean
): Promise<ReadonlyArray<A>> => {
  let left = items
  for (let size = Math.ceil(left.length / 2); size >= 1 && mayGoOn();) {
    let shorter = false
    for (let at = 0; at < left.length && mayGoOn();) {
      const without = [...left.slice(0, at), ...left.slice(at + size)]
      if (await fails(without)) {
        left = without
        shorter = true
      } else at += size
    }
    // what could not be left out alone can be, once something else is gone
    if (size > 1) size = Math.ceil(size / 2)
    else if (!shorter) return left
  }
  return left
}
