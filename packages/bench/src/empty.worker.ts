/** Nothing. */
export const handler = (): void => {}
