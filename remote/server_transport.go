package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/go-partd/partd/internal/server/zmtp"
)

// transport is the server's end of a connection. It writes to the peer and counts the resources that
// the peer uses. The parts of a conn share it.
type transport struct {
	connUse
	nc       net.Conn
	id       uint64 // increases with each connection
	openedAt time.Time
	opts     *ServerOptions
	meters   *meters
	budget   *budget

	changeCtx context.Context // context for changes; see Server
	ctx       context.Context // context for requests that only read; ends with the connection
	cancel    context.CancelFunc
	reader    *zmtp.Reader

	writeMu sync.Mutex // locked before quotas.mu
}

// release releases the connection's account and tenant.
func (t *transport) release() {
	t.account.close()
	t.budget.release(t.tenant)
}

func peerName(nc net.Conn) string {
	if a := nc.RemoteAddr(); a != nil && a.String() != "" && a.String() != "@" {
		return a.String()
	}
	return "local"
}

func (t *transport) abort() {
	t.cancel()
	hangUp(t.nc) // the connection's goroutine then fails to read and ends
}

func (t *transport) evict() {
	t.meters.evictedConns.Add(1)
	t.opts.Logger.Warn("connection closed: other peers need its memory or its slot", "peer", peerName(t.nc))
	t.abort()
}

// bytesPerDeadline is the number of bytes after which write sets a new deadline.
const bytesPerDeadline = 512 << 10

// write writes to the peer. It fails if, during StallTimeout, the peer reads neither 512 KiB in total
// nor 16 KiB per second. An error ends the connection.
func (t *transport) write(parts ...[]byte) error {
	t.writeMu.Lock()
	defer t.writeMu.Unlock()
	return t.writeParts(parts...)
}

// writeParts does the work of write, for callers that hold writeMu.
func (t *transport) writeParts(parts ...[]byte) error {
	for len(parts) > 0 {
		if err := t.writeStep(cutPieces(&parts, bytesPerDeadline)); err != nil {
			t.abort()
			return err
		}
	}
	return nil
}

func (t *transport) writeStep(step net.Buffers) error {
	timeout := t.opts.StallTimeout
	_, isTLS := t.nc.(*tls.Conn)
	if isTLS { // after a missed deadline, a TLS connection is unusable, so allow enough time for the whole step
		size := 0
		for _, p := range step {
			size += len(p)
		}
		timeout += time.Duration(size) * time.Second / zmtp.MinRate
	}
	for {
		if err := t.nc.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return err
		}
		n, err := step.WriteTo(t.nc) // removes the written bytes from step
		t.account.sent.Add(n)
		t.meters.bytesSent.Add(n)
		slow := !isTLS && errors.Is(err, os.ErrDeadlineExceeded) && float64(n) >= timeout.Seconds()*zmtp.MinRate
		if !slow {
			return err
		}
	}
}

func (t *transport) newAllowance() *allowance {
	return &allowance{account: t.account, ctx: t.ctx}
}

// enterLarge waits until the peer is running no other change with many keys. Call it before taking
// memory for the change, because the running change may need that memory.
func (t *transport) enterLarge() error {
	t.account.addWaits(1)
	defer t.account.addWaits(-1)
	return t.tenant.large.acquire(t.ctx)
}

// maxSmallFrame is the maximum size of a frame whose memory is requested with the demand admission, as
// if it were the last frame of its message. Larger frames must leave room for the elder's message
// (see mayGrow).
const maxSmallFrame = 64 << 10

// Take takes memory for arriving data. If whole is true, the message needs no further memory.
func (t *transport) Take(bytes int64, whole bool) error {
	d := growth
	if whole || bytes <= maxSmallFrame {
		d = admission
	}
	return t.account.takeMessage(t.ctx, bytes, d)
}

func (t *transport) Release(bytes int64) { t.account.giveMessage(bytes) }

// Crowded reports whether memory is so scarce that connections should keep only small buffers.
func (t *transport) Crowded() bool { return t.budget.isCrowded() }

// logFault logs a failed request: at level ERROR if the store failed, or at peerLevel if the peer
// caused the failure.
func (t *transport) logFault(peerLevel slog.Level, message string, err error, more ...any) {
	level := slog.LevelError
	if isPeerFault(err) || t.changeCtx.Err() != nil {
		level = peerLevel
	} else {
		t.meters.storeErrors.Add(1)
	}
	if isCancelled(err) || errors.Is(err, errDenied) {
		level = slog.LevelDebug // the client has disconnected, the server is stopping, or the refusal is already logged
	}
	t.opts.Logger.Log(context.Background(), level, message, append(more, "peer", peerName(t.nc), "error", err)...)
}
