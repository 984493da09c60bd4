// Package page serves tables to a browser: a page that is part of the program, and
// what it asks for. docs/http.md has all of it.
package page

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/formats"
)

const (
	maxBody     = 1 << 20  // bytes of JSON
	largeBody   = 64 << 10 // from which size on a body of JSON has a place of its own: it is decoded to a multiple
	maxOpenBody = 16 << 10 // without a token

	maxRequests = 256  // at a time, of a host half; without a token as many beside, of a host an eighth
	maxLarge    = 16   // large bodies at a time, of a host a quarter
	maxFailures = 1000 // that are remembered
)

// Options of a Handler.
type Options struct {
	URL string // of the server of Flight, for the commands that actions are
}

// Handler serves the page of a store, under the tokens and limits of a server of
// it.
func Handler(server *flightd.Server, store *tables.Store, o Options) http.Handler {
	return newHandler(server, store, o)
}

type handler struct {
	server   *flightd.Server
	store    *tables.Store
	opts     flightd.Options
	url      string
	requests *flightd.Places
	open     *flightd.Places // requests without a token, which take no place of the others
	large    *flightd.Places // requests with a large body of JSON
	apart    *formats.Apart
	counts   counts

	mu       sync.Mutex
	failures []failure // of streams that were cut, oldest first
}

func newHandler(server *flightd.Server, store *tables.Store, o Options) http.Handler {
	h := &handler{server: server, store: store, opts: server.Options(), url: o.URL, requests: flightd.NewPlaces(maxRequests, maxRequests/2), open: flightd.NewPlaces(maxRequests, maxRequests/8), large: flightd.NewPlaces(maxLarge, maxLarge/4)}
	h.apart = formats.NewApart(h.opts.Memory / 2)
	api := http.NewServeMux()
	for pattern, e := range map[string]endpoint{
		"GET /api/session":          {open: true, do: h.session},
		"POST /api/sign-in":         {open: true, do: h.signIn},
		"POST /api/sign-out":        {open: true, do: h.signOut},
		"GET /api/tree":             {do: h.tree},
		"GET /api/table":            {do: h.table},
		"GET /api/rows":             {do: h.rows},
		"GET /api/profile":          {do: h.profile},
		"POST /api/query":           {do: h.query},
		"POST /api/cancel":          {do: h.cancel},
		"GET /api/query/{id}/error": {do: h.failure},
		"GET /api/download":         {do: h.download},
		"POST /api/put":             {do: h.put},
		"POST /api/action":          {do: h.action},
	} {
		_, path, _ := strings.Cut(pattern, " ")
		e.name = "http-" + strings.TrimPrefix(strings.ReplaceAll(path, "/{id}/", "-"), "/api/")
		api.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, e) })
	}
	unknown := func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := api.Handler(&http.Request{Method: map[bool]string{true: "POST", false: "GET"}[r.Method == http.MethodGet], URL: r.URL, Host: r.Host}); pattern != "/api/" && pattern != "" {
			h.fail(w, &problem{Status: http.StatusMethodNotAllowed, Text: r.URL.Path + " takes another method than " + r.Method})
			return
		}
		h.fail(w, &problem{Status: http.StatusNotFound, Text: "there is no " + r.URL.Path})
	}
	api.HandleFunc("/api/", unknown)
	all := http.NewServeMux()
	all.Handle("/api/", api)
	all.Handle("/", files())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		if err := h.admits(r); err != nil {
			h.fail(w, err)
			return
		}
		if h.opts.TLS != nil && r.TLS == nil {
			http.Redirect(w, r, "https://"+r.Host+r.URL.RequestURI(), http.StatusPermanentRedirect)
			return
		}
		all.ServeHTTP(w, r)
	})
}

func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "+
		"frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

var crossOrigin = http.NewCrossOriginProtection()

// admits is nil for what may come from a page of ours, or from no page at all.
func (h *handler) admits(r *http.Request) error {
	forbidden := func(text string) error { return &problem{Status: http.StatusForbidden, Text: text} }
	if err := crossOrigin.Check(r); err != nil {
		return forbidden("the request comes from another site: " + err.Error())
	}
	api := strings.HasPrefix(r.URL.Path, "/api/")
	if site := r.Header.Get("Sec-Fetch-Site"); api && site != "" && site != "same-origin" && site != "none" {
		return forbidden("the request comes from another site")
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Header.Get("X-Partd") != "1" {
		return forbidden("the request lacks the header X-Partd: 1, which other sites cannot send")
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if h.opts.Secret == nil && loopback(local) && !loopbackHost(r.Host) {
		return forbidden("the header Host is neither localhost nor a loopback address: another site's name may lead here")
	}
	return nil
}

func loopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

func loopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
}

// endpoint is an address below /api/.
type endpoint struct {
	name string
	open bool // no token is asked for
	do   func(*request) error
}

// request is one in work.
type request struct {
	*http.Request
	ctx    context.Context // of the call
	w      http.ResponseWriter
	rc     *http.ResponseController
	caller flightd.Caller
	idle   time.Duration
	began  bool // of the answer's body
	id     string
	done   func() // ends what id cancels
	large  *flightd.Places
	leave  func() // gives its places back
}

// cancellable makes the rest of the request one that its id cancels.
func (q *request) cancellable(h *handler, id string) {
	q.id = id
	q.ctx, q.done = h.server.Cancellable(q.ctx, id)
}

// serve does what an address is for.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, e endpoint) {
	q := &request{Request: r, w: w, rc: http.NewResponseController(w), idle: h.opts.IdleTimeout, large: h.large}
	r.Body = &body{r.Body, q}
	var err error
	if q.caller, err = h.identify(r); err != nil && !e.open {
		h.fail(w, refused("sign in with a valid token: ", err))
		return
	}
	ctx, end := h.server.Begin(r.Context(), &q.caller, r.RemoteAddr, e.name)
	q.ctx, q.done = ctx, func() {}
	var ok bool
	if e.open {
		q.idle = min(q.idle, headerTime)
		r.Body = http.MaxBytesReader(w, r.Body, maxOpenBody)
		var cancel context.CancelFunc
		q.ctx, cancel = context.WithTimeout(ctx, headerTime)
		stop := context.AfterFunc(q.ctx, func() { _ = q.rc.SetReadDeadline(time.Now()) })
		q.done = func() { stop(); cancel() }
		q.leave, ok = h.open.Take(r.RemoteAddr, cancel)
	} else {
		q.leave, ok = h.requests.Take(r.RemoteAddr, nil)
	}
	if !ok {
		err := tooMany("requests")
		q.done()
		end(err)
		h.fail(w, err)
		return
	}
	defer func() { q.leave() }()
	err = e.do(q)
	if cause := context.Cause(q.ctx); err != nil && cause != nil && !errors.As(err, new(*problem)) {
		err = flightd.Status(cause)
	}
	q.done()
	end(err)
	if err == nil {
		return
	}
	if q.began {
		h.remember(q.id, err)
		panic(http.ErrAbortHandler)
	}
	h.fail(w, err)
}

// body gives each read its time.
type body struct {
	io.ReadCloser
	q *request
}

func (b *body) Read(p []byte) (int, error) {
	if err := context.Cause(b.q.ctx); err != nil {
		_ = b.q.rc.SetReadDeadline(time.Now()) // nor is the rest waited for
		return 0, err
	}
	_ = b.q.rc.SetReadDeadline(time.Now().Add(b.q.idle))
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.q.rc.SetReadDeadline(time.Time{}) // else the connection would be taken for dead
	}
	return n, err
}

// names are the bucket and the table of a request.
func (q *request) names() (bucket, table string, err error) {
	v := q.URL.Query()
	bucket, table = v.Get("bucket"), v.Get("table")
	if table == "" {
		return "", "", invalid("table= is required")
	}
	return bucket, table, errors.Join(checkNames(bucket, table), q.caller.MayUse(flightd.Read, bucket))
}

// only returns buckets that the caller may see.
func (q *request) only(all []string) []string {
	return slices.DeleteFunc(all, func(b string) bool { return q.caller.MayUse(flightd.Read, b) != nil })
}
