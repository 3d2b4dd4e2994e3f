/**
 * A network for hosts that have none yet.
 *
 * @module
 */

/** The configuration of a network of one bridge, as CNI reads it (`10-bridge.conflist`). */
export const BRIDGE_NETWORK: string = JSON.stringify({
  cniVersion: "1.0.0",
  name: "bridge",
  plugins: [{
    type: "bridge",
    bridge: "cni0",
    isGateway: true,
    ipMasq: true,
    ipam: {
      type: "host-local",
      ranges: [[{ subnet: "10.88.0.0/16" }]],
      routes: [{ dst: "0.0.0.0/0" }],
    },
  }],
});
