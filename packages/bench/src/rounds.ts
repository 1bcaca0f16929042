/** Rounds in which each system has its turn, in another order each time: whoever comes first meets a cold page cache. */
export const interleaved = async <Name extends string, A>(
  names: ReadonlyArray<Name>,
  rounds: number,
  measure: (name: Name, round: number) => Promise<A>
): Promise<(name: Name) => ReadonlyArray<A>> => {
  const all = new Map<Name, Array<A>>(names.map((name) => [name, []]))
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < names.length; i++) {
      const name = names[(i + round) % names.length]!
      all.get(name)!.push(await measure(name, round))
    }
  }
  return (name) => all.get(name)!
}

/** Another one in each run, so that a Kafka that goes on running can be used. */
export const freshTopic = (bench: string): string =>
  `bench-${bench}-${process.pid.toString(36)}${Date.now().toString(36)}`
