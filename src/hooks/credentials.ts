/**
 * How a hook server is reached: the gRPC target, and the credentials for it. Plaintext is for this host only, unless the
 * operator says `insecure: true`. PEM files are read at each connect, so that renewed ones are taken.
 */
import type { Socket } from "node:net";
import type * as grpc from "@grpc/grpc-js";
import { grpcTarget, isLocal } from "../sdk/address.ts";
import { clientCredentials } from "../sdk/credentials.ts";
import type { HookSettings } from "./settings.ts";

/** Says which setting cannot work; undefined: all is well. */
export function settingsProblem(hook: HookSettings): string | undefined {
  if (hook.tls === undefined) {
    if (isLocal(hook.address) || hook.insecure) return undefined;
    return `hooks: ${hook.name}: mail would go to ${grpcTarget(hook.address)} unencrypted; set tls, or insecure: true`;
  }
  if ((hook.tls.cert === undefined) !== (hook.tls.key === undefined)) {
    return `hooks: ${hook.name}: tls.cert and tls.key go together`;
  }
  try {
    credentials(hook);
    return undefined;
  } catch (error) {
    return `hooks: ${hook.name}: ${(error as Error).message}`;
  }
}

export function credentials(hook: HookSettings): grpc.ChannelCredentials {
  return closedWithChannel(clientCredentials(hook.address, hook.tls).credentials);
}

/**
 * grpc-js leaves connections behind when it closes a channel: one that waits for the server's first octets waits as long as
 * that server hangs, and behind a failed attempt it connects once more, a second later, with nobody to close it then.
 */
function closedWithChannel(credentials: grpc.ChannelCredentials): grpc.ChannelCredentials {
  const create = credentials._createSecureConnector.bind(credentials);
  credentials._createSecureConnector = (...target) => {
    const connector = create(...target);
    const connect = connector.connect.bind(connector);
    const destroy = connector.destroy.bind(connector);
    let isClosed = false;
    let handshaking: Socket | undefined;
    let connected: Socket | undefined;
    connector.connect = async (socket) => {
      if (isClosed) throw new Error("the channel was closed");
      handshaking = socket;
      const result = await connect(socket);
      handshaking = undefined;
      connected = result.socket;
      return result;
    };
    connector.destroy = () => {
      isClosed = true;
      handshaking?.destroy();
      // Where the server has spoken HTTP/2, calls under way may end.
      if (connected?.bytesRead === 0) connected.destroy();
      destroy();
    };
    return connector;
  };
  return credentials;
}

/** `maxReceiveOctets`: the largest answer that is read. */
export function channelOptions(hook: HookSettings, maxReceiveOctets: number): grpc.ChannelOptions {
  return {
    // Each attempt starts from nothing: pauses between them are ours, not of a subchannel shared behind our back.
    "grpc.use_local_subchannel_pool": 1,
    // Mail goes where the configuration says, not through a proxy that the environment names.
    "grpc.enable_http_proxy": 0,
    "grpc.service_config_disable_resolution": 1,
    // A message is never sent twice, and not kept in a retry buffer: that would be memory beside the budget for held ones.
    "grpc.enable_retries": 0,
    "grpc.per_rpc_retry_buffer_size": 0,
    "grpc.max_receive_message_length": maxReceiveOctets,
    "grpc.max_send_message_length": -1,
    ...clientCredentials(hook.address, hook.tls).options,
  };
}
