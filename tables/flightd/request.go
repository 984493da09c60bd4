package flightd

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// MaxRequests is how many requests of HTTP are answered at a time, of a host half.
	// Without a token as many are beside, of a host an eighth.
	MaxRequests = 256

	// MaxLarge is how many of them have a large body, of a host a quarter.
	MaxLarge = 16

	openTime = 10 * time.Second // that a request without a token may take
)

// Requests are the places of a handler's requests.
type Requests struct {
	All   *Places
	open  *Places // requests without a token, which take no place of the others
	large *Places // requests with a large body
	s     *Server
}

// NewRequests returns places for the requests of a handler beside the server.
func (s *Server) NewRequests() *Requests {
	return &Requests{s: s, All: NewPlaces(MaxRequests, MaxRequests/2), open: NewPlaces(MaxRequests, MaxRequests/8), large: NewPlaces(MaxLarge, MaxLarge/4)}
}

// Request is a request of HTTP in work. Each read of its body takes Idle at most.
type Request struct {
	*http.Request
	Ctx     context.Context // of the call
	W       http.ResponseWriter
	Control *http.ResponseController
	Caller  Caller // to be found before it is served
	Idle    time.Duration
	places  *Requests
	leave   func() // gives its places back
}

// New returns a request.
func (p *Requests) New(w http.ResponseWriter, r *http.Request) *Request {
	q := &Request{Request: r, W: w, Control: http.NewResponseController(w), Idle: p.s.opts.IdleTimeout, places: p}
	r.Body = &body{r.Body, q}
	return q
}

// Serve does what the request is for, once it has its place, and counts it by a name. If the
// call was ended from outside, the error says so, unless it is known to say more. A request
// that is open to all, without a token, may bring openBytes, and others may end it for their
// own place.
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
		q.Idle = min(q.Idle, openTime)
		q.Body = http.MaxBytesReader(q.W, q.Body, openBytes)
		limited, cancel := context.WithTimeout(ctx, openTime)
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

// Answer answers with JSON, which the client may take as long as within to receive; with
// instead where v is none.
func Answer(w http.ResponseWriter, within time.Duration, code int, v any, instead string) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(within)) // what came before may have taken long
	text, err := json.Marshal(v)
	if err != nil {
		code, text = http.StatusInternalServerError, []byte(instead)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(text, '\n')) // who has gone needs no answer
}

// WithoutPath is an error's text without where the server has a file.
func WithoutPath(text string, err error) string {
	if file := (*fs.PathError)(nil); errors.As(err, &file) && file.Path != "" {
		return strings.ReplaceAll(text, file.Path, "a file of the server")
	}
	return text
}

func tooMany(what string) error {
	return status.Error(codes.ResourceExhausted, "too many "+what+" are under way; try again later")
}

// Limited is the body, of which most bytes are read. What follows its first large bytes has
// a place of its own until the request leaves: such a body is decoded to a multiple.
func (q *Request) Limited(most, large int64) io.Reader {
	b := http.MaxBytesReader(q.W, q.Body, most)
	return io.MultiReader(io.LimitReader(b, large), &largeRest{b, q})
}

// largeRest is what follows the first part of a large body.
type largeRest struct {
	io.Reader
	q *Request // nil once it has its place
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

// body is a request's, with a limit to the time of each read.
type body struct {
	io.ReadCloser
	q *Request
}

func (b *body) Read(p []byte) (int, error) {
	if err := context.Cause(b.q.Ctx); err != nil {
		_ = b.q.Control.SetReadDeadline(time.Now()) // nor is the rest waited for
		return 0, err
	}
	_ = b.q.Control.SetReadDeadline(time.Now().Add(b.q.Idle))
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.q.Control.SetReadDeadline(time.Time{}) // else the connection would be taken for dead
	}
	return n, err
}

// Places limits how many things are under way, in total and for each host. To make room, a
// new one ends the oldest that allows it: of its own host if that has used up its share,
// and otherwise of the host with the most.
type Places struct {
	limit, share int

	mu    sync.Mutex
	taken []*place // oldest first
}

type place struct {
	host string
	end  func() // nil: it is not ended for others
}

// leastPlaces a host has, however many others have that are not ended.
const leastPlaces = 8

// NewPlaces returns limit places. One host may take at most share of them.
func NewPlaces(limit, share int) *Places { return &Places{limit: limit, share: share} }

// Take takes a place for a caller's address until leave is called; ok is false if there is
// none. If end is not nil, Places may call it to make room for others; it must not block.
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
		return own < min(leastPlaces, p.share)
	}
	t := p.taken[i]
	p.remove(t)
	t.end()
	return true
}
