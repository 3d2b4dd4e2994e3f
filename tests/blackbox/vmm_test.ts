import { blackBoxSuite } from "./suite.ts";
import { vmmTarget } from "./vmm_target.ts";

blackBoxSuite(vmmTarget);
