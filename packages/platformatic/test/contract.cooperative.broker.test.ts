import { contract } from "../../driver/test/suites/contract.ts"
import { client } from "./client.ts"

contract(client, "cooperative")
