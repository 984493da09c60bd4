package flightd

import (
	"context"

	"google.golang.org/grpc/peer"
)

// call is a client's running call, with the bytes that budget and unsentLimit count for it.
type call struct {
	host         string
	ctx          context.Context // a field, because ServerStream's methods take no context
	cancel       context.CancelCauseFunc
	isListed     bool  // whether the call is in budget.calls
	processing   int64 // bytes of the message that is being processed
	requestBytes int64 // the part of processing that is also counted in budget.requestBytes
	pending      int64 // unsent bytes of answers; guarded by unsentLimit.mu
	closed       bool  // whether the connection was closed because of unsent answers; guarded by unsentLimit.mu
	arriving     int64 // bytes of the message that is arriving
}

type callKey struct{}

// callOf returns the call in a context.
func callOf(ctx context.Context) *call {
	return ctx.Value(callKey{}).(*call) //nolint:forcetypeassert // every call's context contains it
}

func addressOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}

// Requests and answers of fewer than minCharged bytes do not count towards the limits on memory.
const minCharged = 64 << 10

// newestOfHeaviestHost returns the newest call of the host with the most bytes. It ignores calls for which the function
// bytes returns a negative number.
func newestOfHeaviestHost(calls []*call, bytes func(*call) int64) (newest *call) {
	hosts := map[string]int64{}
	for _, c := range calls {
		hosts[c.host] += max(0, bytes(c))
	}
	for _, c := range calls {
		if bytes(c) >= 0 && (newest == nil || hosts[c.host] >= hosts[newest.host]) {
			newest = c
		}
	}
	return newest
}
