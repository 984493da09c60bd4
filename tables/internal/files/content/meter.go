package content

import (
	"context"
	"io"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/go-partd/partd/internal/base/canceled"
)

// Meter counts the bytes read by copies and verifications and limits their rate.
type Meter struct {
	bytes atomic.Int64
	limit *rate.Limiter // nil means no limit
}

// chunk is the number of bytes that are read between two checks of the limit and of the context.
const chunk = 64 << 10

// NewMeter returns a meter that limits reading to bytesPerSecond. If that is 0, there is no limit.
func NewMeter(bytesPerSecond int64) *Meter {
	m := new(Meter)
	if bytesPerSecond > 0 {
		const maxBurst = 1 << 30
		m.limit = rate.NewLimiter(rate.Limit(bytesPerSecond), int(max(chunk, min(bytesPerSecond/10, maxBurst))))
	}
	return m
}

// Bytes returns the number of bytes read so far.
func (m *Meter) Bytes() int64 { return m.bytes.Load() }

type meterKey struct{}

// WithMeter returns a context in which m counts and limits the bytes that copies and verifications read.
func WithMeter(ctx context.Context, m *Meter) context.Context {
	return context.WithValue(ctx, meterKey{}, m)
}

// Count adds n bytes to the meter of ctx, if it has one. It waits until the meter's limit allows them. It returns an
// error if ctx is done.
func Count(ctx context.Context, n int64) error {
	m, _ := ctx.Value(meterKey{}).(*Meter)
	if m == nil {
		return canceled.Err(ctx)
	}
	for m.bytes.Add(n); m.limit != nil && n > 0; {
		part := min(n, int64(m.limit.Burst()))
		if err := m.limit.WaitN(ctx, int(part)); err != nil {
			return canceled.Explain(ctx, err)
		}
		n -= part
	}
	return canceled.Err(ctx)
}

// meteredReader passes the bytes that it reads to Count.
type meteredReader struct {
	io.Reader
	ctx context.Context // a field, because Read takes no context
}

func (r *meteredReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p[:min(len(p), chunk)])
	if countErr := Count(r.ctx, int64(n)); countErr != nil {
		return n, countErr
	}
	return n, err
}
