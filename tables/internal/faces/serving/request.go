package serving

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
)

const (
	// MaxRequests limits concurrent HTTP requests with a token; one host may run half of them. A separate limit, also
	// of this size, applies to requests without a token; one host may run an eighth of them.
	MaxRequests = 256

	// MaxLargeRequests limits concurrent requests with a large body; one host may run a quarter of them.
	MaxLargeRequests = 16

	// maxFollowers limits concurrent requests that follow a table's changes; one host may run half of them.
	maxFollowers = 2048

	publicTimeout = 10 * time.Second // time limit for a request without a token
)

// Requests limits the requests of an HTTP handler.
type Requests struct {
	All    *CallLimit // limits requests with a token
	public *CallLimit // limits requests without a token
	large  *CallLimit // limits requests with a large body
	follow *CallLimit // limits requests that follow a table (see Request.Follow)
	s      *Core

	mu        sync.Mutex
	charged   int64            // bytes reserved by all requests together
	holders   []*Request       // requests with reserved bytes, in the order of their first reservations
	waiting   []*Request       // requests that wait in Charge
	chargedTo map[string]int64 // reserved bytes, by user
}

// NewRequests returns a Requests that limits what an HTTP handler in the same process as s may serve.
func (s *Core) NewRequests() *Requests {
	return &Requests{s: s, All: NewCallLimit(MaxRequests, MaxRequests/2), public: NewCallLimit(MaxRequests, MaxRequests/8), large: NewCallLimit(MaxLargeRequests, MaxLargeRequests/4), follow: NewCallLimit(maxFollowers, maxFollowers/2), chargedTo: map[string]int64{}}
}

// Request is a running HTTP request.
type Request struct {
	*http.Request
	Ctx          context.Context // the call's context; set by Serve
	W            http.ResponseWriter
	Control      *http.ResponseController
	Caller       Caller        // must be set before Serve
	ReadTimeout  time.Duration // time limit for each read of the body
	ReadDeadline time.Time     // deadline for reading the body; zero means none
	limits       *Requests
	release      func() // releases the request's share of the limits

	// These are guarded by limits.mu.
	charged, wanted int64     // bytes reserved, and bytes that the last Charge asked for
	firstCharge     time.Time // when Charge was first called
}

// New returns the Request for r, whose response is written to w.
func (p *Requests) New(w http.ResponseWriter, r *http.Request) *Request {
	q := &Request{Request: r, W: w, Control: http.NewResponseController(w), ReadTimeout: p.s.opts.IdleTimeout, limits: p}
	r.Body = &limitedBody{r.Body, q}
	return q
}

// Serve runs handle if the limits allow it. It records the request in the metrics under the given name. If isPublic is
// true, the request needs no token, its body is limited to maxPublicBody bytes, and the limits may cancel it in favor
// of another request. If the request is canceled and handle returns an error, Serve returns the cause of the
// cancellation instead, unless hidesCause returns true for that error.
func (q *Request) Serve(name string, isPublic bool, maxPublicBody int64, handle func() error) (err error) {
	var end func(error)
	q.Ctx, end = q.limits.s.Begin(q.Context(), &q.Caller, q.RemoteAddr, name)
	if id := RequestID(q.Ctx); id != "" {
		q.W.Header().Set("X-Request-Id", id)
	}
	panicked := true
	defer func() {
		if panicked {
			err = kinds.Internal.Errorf("the request handler panicked")
		}
		end(err)
	}()
	var ok bool
	if isPublic {
		q.ReadTimeout = min(q.ReadTimeout, publicTimeout)
		q.Body = http.MaxBytesReader(q.W, q.Body, maxPublicBody)
		var cancel context.CancelFunc
		q.Ctx, cancel = context.WithTimeout(q.Ctx, publicTimeout)
		defer cancel()
		q.release, ok = q.limits.public.Acquire(q.RemoteAddr, cancel)
	} else {
		q.release, ok = q.limits.All.AcquireCall(q.Ctx)
	}
	if !ok {
		panicked = false
		return tooMany("requests")
	}
	defer func() { q.release() }()
	q.ClearDeadlines()
	err = handle()
	panicked = false
	cause := context.Cause(q.Ctx)
	if err != nil && cause != nil && !hidesCause(err, cause) {
		err = Status(cause)
	}
	return err
}

// ClearDeadlines removes an HTTP/2 request's deadlines for reads and writes. It must be called after a read or write,
// because over HTTP/2, a deadline ends the stream even while nothing is read or written.
func (q *Request) ClearDeadlines() {
	if q.ProtoMajor == 2 {
		_ = errors.Join(q.Control.SetReadDeadline(time.Time{}), q.Control.SetWriteDeadline(time.Time{})) // fail only if the stream is closed
	}
}

// Follow must be called by a request that follows a table, which means that it waits for the table's changes. The
// request then has no time limit and counts towards maxFollowers instead of MaxRequests.
func (q *Request) Follow() error {
	release, ok := q.limits.follow.AcquireCall(q.Ctx)
	if !ok {
		return tooMany("requests that follow a table")
	}
	q.release()
	q.release = release
	RemoveTimeLimit(q.Ctx)
	return nil
}

// RecordRefused records a request without a valid token. Serve must not be called for the request.
func (p *Requests) RecordRefused(r *http.Request, name string, err error) {
	_, end := p.s.Begin(r.Context(), &Caller{}, r.RemoteAddr, name)
	end(kinds.Unauthenticated.Errorf("%v", err))
}

// WriteStatus sends the status of a response, before the body (if any). timeout is the client's time to receive the
// response, whatever deadlines were set earlier. It is doubled, because the HTTP server first reads the rest of the
// request's body, if any, until its read deadline.
func WriteStatus(w http.ResponseWriter, timeout time.Duration, code int) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(2 * timeout)) // fails only if the connection is closed
	w.WriteHeader(code)
}

// WriteJSON writes v as JSON, or fallback if v cannot be encoded. See WriteStatus about timeout.
func WriteJSON(w http.ResponseWriter, timeout time.Duration, code int, v any, fallback string) {
	text, err := json.Marshal(v)
	if err != nil {
		code, text = http.StatusInternalServerError, []byte(fallback)
	}
	w.Header().Set("Content-Type", "application/json")
	WriteStatus(w, timeout, code)
	_, _ = w.Write(append(text, '\n')) // fails only if the client has disconnected
}

// Charge raises the memory reserved for the request to n bytes in total, until the request ends. All requests together
// may reserve a quarter of Options.Memory. If too little is free, Charge waits for other requests to end and fails
// after a third of q.ReadTimeout. The request that has held a reservation for longest is always granted more, so that
// requests that raise their reservations cannot deadlock. Otherwise, free memory goes to the user with the smallest
// reservations, and among this user's requests to the one that called Charge first. After half of the waiting time,
// Charge cancels requests of users who have reserved more.
func (q *Request) Charge(n int64) error {
	start, wait := time.Now(), q.ReadTimeout/3
	defer q.limits.stopWaiting(q)
	for deadline := start.Add(wait); !q.limits.tryCharge(q, n); {
		if time.Since(start) > wait/2 {
			q.limits.cancelFor(q, n)
		}
		if time.Now().After(deadline) {
			return tooMany("requests that need much memory")
		}
		if err := canceled.Wait(q.Ctx, time.After(10*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// tryCharge is like Charge, but does not wait. It reports whether it succeeded. If not, a later tryCharge of any
// request may reserve the bytes for q, until stopWaiting(q) is called.
func (p *Requests) tryCharge(q *Request, n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n <= q.charged {
		return true
	}
	if q.firstCharge.IsZero() {
		q.firstCharge = time.Now()
	}
	q.wanted = n
	if !slices.Contains(p.waiting, q) {
		p.waiting = append(p.waiting, q)
	}
	if len(p.holders) == 0 || p.holders[0] == q {
		p.grant(q)
	}
	for len(p.waiting) > 0 {
		next := slices.MinFunc(p.waiting, func(a, b *Request) int {
			return cmp.Or(cmp.Compare(p.chargedTo[a.Caller.user], p.chargedTo[b.Caller.user]), a.firstCharge.Compare(b.firstCharge))
		})
		if p.charged+next.wanted-next.charged > p.s.opts.Memory/4 {
			break
		}
		p.grant(next)
	}
	return n <= q.charged
}

// grant reserves the bytes that q wants. mu must be held.
func (p *Requests) grant(q *Request) {
	if q.charged == 0 {
		p.holders = append(p.holders, q)
		releaseOthers := q.release
		q.release = func() { p.uncharge(q); releaseOthers() }
	}
	extra := q.wanted - q.charged
	q.charged = q.wanted
	p.add(q, extra)
	p.waiting = slices.DeleteFunc(p.waiting, func(o *Request) bool { return o == q })
}

// add counts n bytes for q. mu must be held.
func (p *Requests) add(q *Request, n int64) {
	p.charged += n
	count(p.chargedTo, q.Caller.user, n)
	p.s.Memory.Add(n)
}

func (p *Requests) stopWaiting(q *Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = slices.DeleteFunc(p.waiting, func(o *Request) bool { return o == q })
}

// cancelFor cancels the newest request of the user who has reserved the most memory, unless q's user would have at
// least as much once q has n bytes. It does nothing while an earlier victim still holds its memory.
func (p *Requests) cancelFor(q *Request, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var victim *Request
	maxCharged := p.chargedTo[q.Caller.user] + n - q.charged
	for _, o := range p.holders {
		if o.Ctx.Err() != nil {
			return
		}
		charged := p.chargedTo[o.Caller.user]
		if charged > maxCharged || charged == maxCharged && victim != nil {
			victim, maxCharged = o, charged
		}
	}
	if victim != nil {
		victim.Ctx.Value(callKey{}).(*call).cancel(errShare)
	}
}

func (p *Requests) uncharge(q *Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holders = slices.DeleteFunc(p.holders, func(o *Request) bool { return o == q })
	p.add(q, -q.charged)
}

func tooMany(requests string) error {
	return kinds.Busy.Errorf("too many %s are running; try again later", requests)
}

// Limited returns the body, limited to limit bytes. If the body is longer than maxSmall bytes, the request counts
// towards MaxLargeRequests until it ends, because decoding a body takes several times its size in memory.
func (q *Request) Limited(limit, maxSmall int64) io.Reader {
	b := http.MaxBytesReader(q.W, q.Body, limit)
	return io.MultiReader(io.LimitReader(b, maxSmall), &largeBodyRest{b, q})
}

// largeBodyRest reads the part of a body after its first maxSmall bytes (see Limited). The first read counts the
// request towards MaxLargeRequests.
type largeBodyRest struct {
	io.Reader
	q *Request // nil after the first read
}

func (l *largeBodyRest) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if q := l.q; q != nil && n > 0 {
		releaseLarge, ok := q.limits.large.AcquireCall(q.Ctx)
		if !ok {
			return 0, tooMany("large requests")
		}
		releaseOthers := q.release
		q.release, l.q = func() { releaseLarge(); releaseOthers() }, nil
	}
	return n, err
}

// AfterFunc is like context.AfterFunc, but if f has begun, stop waits until f has ended. f can thus use a request's
// ResponseController, which panics after the end of an HTTP/2 request. stop must be called exactly once.
func AfterFunc(ctx context.Context, f func()) (stop func()) {
	done := make(chan struct{})
	prevent := context.AfterFunc(ctx, func() {
		defer close(done)
		f()
	})
	return func() {
		if !prevent() {
			<-done
		}
	}
}

// limitedBody is a request's body, with a time limit for each read.
type limitedBody struct {
	io.ReadCloser
	q *Request
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if err := context.Cause(b.q.Ctx); err != nil {
		_ = b.q.Control.SetReadDeadline(time.Now()) // so that the HTTP server does not wait for more of the body
		return 0, err
	}
	deadline := time.Now().Add(b.q.ReadTimeout)
	if d := b.q.ReadDeadline; !d.IsZero() && d.Before(deadline) {
		deadline = d
	}
	_ = b.q.Control.SetReadDeadline(deadline)                                          // fails only if the connection is closed, so that Read also fails
	defer AfterFunc(b.q.Ctx, func() { _ = b.q.Control.SetReadDeadline(time.Now()) })() // ends a blocked read
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == nil:
		b.q.ClearDeadlines()
	case err == io.EOF:
		_ = b.q.Control.SetReadDeadline(time.Time{}) // otherwise, the HTTP server would close the connection
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = ErrSending
	case err != nil:
		err = status.Errorf(codes.InvalidArgument, "the body cannot be read: %v", err) // not a kinds.Error, for which Serve would hide the cause of a cancellation
	}
	return n, err
}
