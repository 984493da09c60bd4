package flightd

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// MaxRequests limits concurrent HTTP requests with a token. A host may have half of them. As
	// many more may run without a token; a host may have an eighth of these.
	MaxRequests = 256

	// MaxLarge limits concurrent requests with a large body. A host may have a quarter of them.
	MaxLarge = 16

	openTimeout = 10 * time.Second // time limit of a request without a token
)

// Requests limits the requests of an HTTP handler.
type Requests struct {
	All   *Places
	open  *Places // requests without a token, which are not in All
	large *Places // requests with a large body
	s     *Server

	mu       sync.Mutex
	charged  int64      // bytes counted by Charge
	chargers []*Request // those with charged bytes, in the order of their first Charge
}

// NewRequests returns the limits for the requests of a handler that runs next to the server.
func (s *Server) NewRequests() *Requests {
	return &Requests{s: s, All: NewPlaces(MaxRequests, MaxRequests/2), open: NewPlaces(MaxRequests, MaxRequests/8), large: NewPlaces(MaxLarge, MaxLarge/4)}
}

// Request is a running HTTP request. Each read of its body may take up to Idle.
type Request struct {
	*http.Request
	Ctx     context.Context // of the call
	W       http.ResponseWriter
	Control *http.ResponseController
	Caller  Caller // must be set before Serve
	Idle    time.Duration
	Late    time.Time // if set, reads of the body fail after it
	places  *Requests
	charged int64  // guarded by the mu of places
	leave   func() // releases its places
}

// New returns a request.
func (p *Requests) New(w http.ResponseWriter, r *http.Request) *Request {
	q := &Request{Request: r, W: w, Control: http.NewResponseController(w), Idle: p.s.opts.IdleTimeout, places: p}
	r.Body = &body{r.Body, q}
	return q
}

// Serve runs do if a place is free, and counts the request under a name. If the call was canceled,
// the error states the cause, unless known reports that do's own error is better. If open is true,
// the request needs no token, its body may have openBytes at most, and it may be canceled to make
// room for another.
func (q *Request) Serve(name string, open bool, openBytes int64, known func(error) bool, do func() error) error {
	end, err := q.enter(name, open, openBytes)
	if err != nil {
		return err
	}
	defer func() { q.leave() }()
	err = do()
	if cause := context.Cause(q.Ctx); err != nil && cause != nil && !known(err) {
		err = Status(cause)
	}
	end(err)
	return err
}

func (q *Request) enter(name string, open bool, openBytes int64) (end func(error), err error) {
	ctx, end := q.places.s.Begin(q.Context(), &q.Caller, q.RemoteAddr, name)
	q.Ctx = ctx
	var ok bool
	if open {
		q.Idle = min(q.Idle, openTimeout)
		q.Body = http.MaxBytesReader(q.W, q.Body, openBytes)
		limited, cancel := context.WithTimeout(ctx, openTimeout)
		stop := context.AfterFunc(limited, func() { _ = q.Control.SetReadDeadline(time.Now()) })
		q.Ctx = limited
		count := end
		end = func(err error) { stop(); cancel(); count(err) }
		q.leave, ok = q.places.open.Take(q.RemoteAddr, cancel)
	} else {
		q.leave, ok = q.places.All.Take(q.RemoteAddr, nil)
	}
	if !ok {
		err := tooMany("requests")
		end(err)
		return nil, err
	}
	return end, nil
}

// WriteJSON writes v as JSON, or instead if v cannot be encoded. The client may take as long as timeout
// to receive it.
func WriteJSON(w http.ResponseWriter, timeout time.Duration, code int, v any, instead string) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(timeout)) // earlier parts may have used up the time
	text, err := json.Marshal(v)
	if err != nil {
		code, text = http.StatusInternalServerError, []byte(instead)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(text, '\n')) // an error means that the client has gone
}

// WithoutPath returns an error's text without the path of a file on the server.
func WithoutPath(text string, err error) string {
	if file := (*fs.PathError)(nil); errors.As(err, &file) && file.Path != "" {
		return strings.ReplaceAll(text, file.Path, "a file of the server")
	}
	return text
}

// Charge counts n bytes that the request needs in total against a quarter of the server's memory,
// until the request ends. If there is not enough, it waits for other requests. The request that was
// charged first is never refused, so a request may call Charge again with more bytes.
func (q *Request) Charge(n int64) error {
	for late := time.Now().Add(q.Idle / 3); !q.places.tryCharge(q, n); {
		if time.Now().After(late) {
			return tooMany("requests that need much memory")
		}
		select {
		case <-q.Ctx.Done():
			return context.Cause(q.Ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

func (p *Requests) tryCharge(q *Request, n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	more := n - q.charged
	switch {
	case more <= 0:
		return true
	case p.charged+more > p.s.opts.Memory/4 && len(p.chargers) > 0 && p.chargers[0] != q:
		return false
	case q.charged == 0:
		p.chargers = append(p.chargers, q)
		leave := q.leave
		q.leave = func() { p.uncharge(q); leave() }
	}
	q.charged = n
	p.charged += more
	p.s.memory.add(more)
	return true
}

func (p *Requests) uncharge(q *Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.chargers = slices.DeleteFunc(p.chargers, func(o *Request) bool { return o == q })
	p.charged -= q.charged
	p.s.memory.used.Add(-q.charged)
}

func tooMany(what string) error {
	return status.Error(codes.ResourceExhausted, "too many "+what+" are running; try again later")
}

// Limited returns the body, which fails after limit bytes. A body with more than large bytes takes
// a second place until the request ends, because it needs several times its size when decoded.
func (q *Request) Limited(limit, large int64) io.Reader {
	b := http.MaxBytesReader(q.W, q.Body, limit)
	return io.MultiReader(io.LimitReader(b, large), &largeRest{b, q})
}

// largeRest reads the rest of a large body.
type largeRest struct {
	io.Reader
	q *Request // nil after it has taken the place
}

func (l *largeRest) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if q := l.q; q != nil && n > 0 {
		leave, ok := q.places.large.Take(q.RemoteAddr, nil)
		if !ok {
			return 0, tooMany("large requests")
		}
		rest := q.leave
		q.leave, l.q = func() { leave(); rest() }, nil
	}
	return n, err
}

// body is a request's body with a time limit for each read.
type body struct {
	io.ReadCloser
	q *Request
}

func (b *body) Read(p []byte) (int, error) {
	if err := context.Cause(b.q.Ctx); err != nil {
		_ = b.q.Control.SetReadDeadline(time.Now()) // do not wait for the rest
		return 0, err
	}
	late := time.Now().Add(b.q.Idle)
	if l := b.q.Late; !l.IsZero() && l.Before(late) {
		late = l
	}
	_ = b.q.Control.SetReadDeadline(late)
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == io.EOF:
		_ = b.q.Control.SetReadDeadline(time.Time{}) // otherwise the connection would seem dead
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = errSending
	case err != nil:
		err = status.Errorf(codes.InvalidArgument, "the body cannot be read: %v", err)
	}
	return n, err
}

// Places limits concurrent uses of something, in total and for each host. When all places are
// taken, a new use cancels the oldest cancelable one: of its own host if that host has used up its
// share, and otherwise of the host with the most.
type Places struct {
	limit, share int

	mu    sync.Mutex
	taken []*place // in the order of arrival
}

type place struct {
	host string
	end  func() // nil: it cannot be canceled
}

// A host always gets minPlaces, even if others hold all places and cannot be canceled.
const minPlaces = 8

// NewPlaces returns a limit of places in total. A host may take share of them.
func NewPlaces(limit, share int) *Places { return &Places{limit: limit, share: share} }

// Take takes a place for the caller at an address until leave is called; ok is false if no place is
// free. If end is not nil, Places may call it to make room for others. It must not block.
func (p *Places) Take(address string, end func()) (leave func(), ok bool) {
	t := &place{hostOfAddress(address), end}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.makeRoom(t.host) {
		return nil, false
	}
	p.taken = append(p.taken, t)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.remove(t)
	}, true
}

func (p *Places) remove(t *place) {
	p.taken = slices.DeleteFunc(p.taken, func(o *place) bool { return o == t })
}

func (p *Places) makeRoom(host string) bool {
	own, ends := 0, map[string]int{}
	for _, t := range p.taken {
		if t.host == host {
			own++
		}
		if t.end != nil {
			ends[t.host]++
		}
	}
	most := host
	if own < p.share {
		if len(p.taken) < p.limit {
			return true
		}
		for h, n := range ends {
			if n > ends[most] {
				most = h
			}
		}
	}
	i := slices.IndexFunc(p.taken, func(t *place) bool { return t.host == most && t.end != nil })
	if i < 0 {
		return own < min(minPlaces, p.share)
	}
	t := p.taken[i]
	p.remove(t)
	t.end()
	return true
}
