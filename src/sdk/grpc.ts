/**
 * From a protobuf-es service descriptor (src/gen) to what grpc-js wants: a service definition for servers, a typed client
 * for callers. grpc-js frames and protobuf-es encodes, so that there is one protobuf runtime only. Both sides of the
 * protocol share this file: hook servers (this folder) and the proxy's hook client.
 *
 * Messages may be given as plain initializers (`{ ackedSequence: 5n }`): they are completed with `create`. `bytes` fields
 * of received messages are views into the received frame: copy them before keeping them for long.
 */
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import * as grpc from "@grpc/grpc-js";

/** A generated service (`HookService`, `Health`), with the types of its methods. */
export type Service<Methods extends GenServiceMethods> = GenService<Methods>;

type Received<Desc extends DescMessage> = MessageShape<Desc>;
type Given<Desc extends DescMessage> = MessageInitShape<Desc>;
type Done<T> = (error: grpc.ServiceError | null, value?: T) => void;

type ClientMethod<In extends DescMessage, Out extends DescMessage, Kind> = Kind extends "unary"
  ? {
      (request: Given<In>, done: Done<Received<Out>>): grpc.ClientUnaryCall;
      (
        request: Given<In>,
        metadata: grpc.Metadata,
        options: grpc.CallOptions,
        done: Done<Received<Out>>,
      ): grpc.ClientUnaryCall;
    }
  : Kind extends "client_streaming"
    ? {
        (done: Done<Received<Out>>): grpc.ClientWritableStream<Given<In>>;
        (
          metadata: grpc.Metadata,
          options: grpc.CallOptions,
          done: Done<Received<Out>>,
        ): grpc.ClientWritableStream<Given<In>>;
      }
    : Kind extends "server_streaming"
      ? (
          request: Given<In>,
          metadata?: grpc.Metadata,
          options?: grpc.CallOptions,
        ) => grpc.ClientReadableStream<Received<Out>>
      : (
          metadata?: grpc.Metadata,
          options?: grpc.CallOptions,
        ) => grpc.ClientDuplexStream<Given<In>, Received<Out>>;

type ServerMethod<In extends DescMessage, Out extends DescMessage, Kind> = Kind extends "unary"
  ? grpc.handleUnaryCall<Received<In>, Given<Out>>
  : Kind extends "client_streaming"
    ? grpc.handleClientStreamingCall<Received<In>, Given<Out>>
    : Kind extends "server_streaming"
      ? grpc.handleServerStreamingCall<Received<In>, Given<Out>>
      : grpc.handleBidiStreamingCall<Received<In>, Given<Out>>;

/** A grpc-js client with one method per RPC, named as in the descriptor (`describe`, `beforeRelay`). */
export type ClientOf<Methods extends GenServiceMethods> = grpc.Client & {
  readonly [K in keyof Methods]: ClientMethod<
    Methods[K]["input"],
    Methods[K]["output"],
    Methods[K]["methodKind"]
  >;
};

/** The handlers of a server. One left out is answered UNIMPLEMENTED. */
export type HandlersOf<Methods extends GenServiceMethods> = {
  readonly [K in keyof Methods]?: ServerMethod<
    Methods[K]["input"],
    Methods[K]["output"],
    Methods[K]["methodKind"]
  >;
};

/**
 * `/warp.hook.v1.HookService/Describe` and its like, with protobuf-es as the codec. Requests of the methods in `undecoded`
 * are handed over as the octets that came.
 */
export function serviceDefinition<Methods extends GenServiceMethods>(
  service: Service<Methods>,
  undecoded: readonly (keyof Methods)[] = [],
): grpc.ServiceDefinition {
  return Object.fromEntries(
    service.methods.map((method) => [
      method.localName,
      {
        path: `/${service.typeName}/${method.name}`,
        originalName: method.name,
        requestStream: method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming",
        responseStream: method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming",
        ...codec("request", method.input),
        ...codec("response", method.output),
        ...(undecoded.includes(method.localName) && { requestDeserialize: (octets: Buffer) => octets }),
      },
    ]),
  ) as grpc.ServiceDefinition;
}

/** Registers the handlers of one service with a grpc-js server. Those of `undecoded` are given octets as requests. */
export function addService<Methods extends GenServiceMethods>(
  server: grpc.Server,
  service: Service<Methods>,
  handlers: HandlersOf<NoInfer<Methods>>,
  undecoded: readonly (keyof NoInfer<Methods>)[] = [],
): void {
  const given = Object.fromEntries(Object.entries(handlers).filter(([, handler]) => handler !== undefined));
  server.addService(serviceDefinition(service, undecoded), given as grpc.UntypedServiceImplementation);
}

/**
 * A client for one server. `address` as grpc-js takes it (`unix:/path`, `host:port`, `dns:///host:port`); it connects at the
 * first call, or with `waitForReady`. Close it when done.
 */
export function createClient<Methods extends GenServiceMethods>(
  service: Service<Methods>,
  address: string,
  credentials: grpc.ChannelCredentials,
  options?: grpc.ClientOptions,
): ClientOf<Methods> {
  const Client = grpc.makeGenericClientConstructor(serviceDefinition(service), service.typeName);
  return new Client(address, credentials, options) as unknown as ClientOf<Methods>;
}

function codec(side: "request" | "response", schema: DescMessage): Record<string, unknown> {
  return {
    [`${side}Serialize`]: (message: MessageInitShape<DescMessage>) =>
      asBuffer(toBinary(schema, create(schema, message))),
    [`${side}Deserialize`]: (octets: Uint8Array) => fromBinary(schema, octets),
  };
}

function asBuffer(octets: Uint8Array): Buffer {
  return Buffer.from(octets.buffer, octets.byteOffset, octets.byteLength);
}
