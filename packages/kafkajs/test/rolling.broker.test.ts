import { rolling } from "../../driver/test/suites/rolling.ts"
import { client } from "./client.ts"

rolling(client)
