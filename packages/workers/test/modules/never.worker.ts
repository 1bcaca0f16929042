await new Promise((resolve) => setTimeout(resolve, 1_000_000))
export const handler = () => 1
