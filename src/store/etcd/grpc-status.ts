/**
 * How a gRPC exchange ended, from what HTTP/2 shows of it: trailers, a status without trailers, a reset, a cut.
 *
 * Source: gRPC over HTTP2 (grpc/grpc, doc/PROTOCOL-HTTP2.md) and doc/http-grpc-status-mapping.md.
 */
import { constants, type IncomingHttpHeaders } from 'node:http2';
import { CallFailure, GrpcStatus } from './transport.js';

/** The failure that trailers report; undefined for OK, or when they report nothing (`grpc-status` is absent). */
export function failureOfTrailers(trailers: IncomingHttpHeaders): CallFailure | undefined {
  const status = Number(trailers['grpc-status']);
  if (status === 0) return undefined;
  const message = messageOf(trailers['grpc-message']);
  if (!Number.isInteger(status)) {
    return new CallFailure(GrpcStatus.INTERNAL, 'the answer ended without a gRPC status', {
      wasSent: true,
    });
  }
  return new CallFailure(status, message, { wasSent: true, isFromServer: true });
}

/** The failure that the status line of an answer reports, when it is no gRPC: something stands between. */
export function failureOfResponse(headers: IncomingHttpHeaders): CallFailure | undefined {
  const httpStatus = Number(headers[':status']);
  if (httpStatus === 200) return undefined;
  const status =
    httpStatus === 401
      ? GrpcStatus.UNAUTHENTICATED
      : httpStatus === 403
        ? GrpcStatus.PERMISSION_DENIED
        : httpStatus === 404
          ? GrpcStatus.UNIMPLEMENTED
          : [429, 502, 503, 504].includes(httpStatus)
            ? GrpcStatus.UNAVAILABLE
            : GrpcStatus.UNKNOWN;
  return new CallFailure(
    status,
    `HTTP status ${httpStatus}: this is no etcd, or a proxy before it`,
    {
      wasSent: true,
    },
  );
}

/** The failure of a stream that closed without trailers. */
export function failureOfClose(resetCode: number, cause: unknown): CallFailure {
  // The server's promise that it has not looked at the request; nghttp2 also gives it to streams above a GOAWAY.
  const wasSent = resetCode !== constants.NGHTTP2_REFUSED_STREAM;
  const status =
    resetCode === constants.NGHTTP2_ENHANCE_YOUR_CALM
      ? GrpcStatus.RESOURCE_EXHAUSTED
      : GrpcStatus.UNAVAILABLE;
  const why = cause instanceof Error ? cause.message : `stream reset with code ${resetCode}`;
  return new CallFailure(status, `connection cut before the answer: ${why}`, { wasSent, cause });
}

/** `grpc-message` is percent-encoded UTF-8; what does not decode is shown as it is. */
function messageOf(raw: string | readonly string[] | undefined): string {
  const text = typeof raw === 'string' ? raw : '';
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * The member knows no leader: it is cut off from the others, or they elect one. Said before anything is done with a
 * request, since every request carries `hasleader` (newUnaryInterceptor in server/etcdserver/api/v3rpc).
 */
export function isLeaderless(failure: CallFailure): boolean {
  return failure.isFromServer && failure.message.includes('etcdserver: no leader');
}
