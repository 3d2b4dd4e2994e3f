import { runcTarget } from "./runc_target.ts";
import { blackBoxSuite } from "./suite.ts";

blackBoxSuite(runcTarget);
