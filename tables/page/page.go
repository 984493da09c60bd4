// Package page serves tables to web browsers: a page embedded in the program, and the
// requests that the page makes. docs/http.md describes both.
package page

import (
	"errors"
	"net/http"
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
	maxFailures = 1000     // that are remembered
)

// Options are the options of Handler.
type Options struct {
	URL string // of the Flight server, for the commands that the page shows
}

type handler struct {
	server   *flightd.Server
	store    *tables.Store
	opts     flightd.Options
	url      string
	requests *flightd.Requests
	apart    *formats.Apart
	counts   counts

	mu       sync.Mutex
	failures []failure // of streams that were cut, oldest first
}

// Handler serves the page for a store. The tokens and limits of server, which must serve
// the same store, apply to its requests.
func Handler(server *flightd.Server, store *tables.Store, o Options) http.Handler {
	h := &handler{server: server, store: store, opts: server.Options(), url: o.URL, requests: server.NewRequests()}
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

// admits is nil for what may come from a page of ours, or from no page at all.
func (h *handler) admits(r *http.Request) error {
	if err := h.server.Admits(r, strings.HasPrefix(r.URL.Path, "/api/")); err != nil {
		return err
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Header.Get("X-Partd") != "1" {
		return &problem{Status: http.StatusForbidden, Text: "the request lacks the header X-Partd: 1, which other sites cannot send"}
	}
	return nil
}

// endpoint is an address below /api/.
type endpoint struct {
	name string
	open bool // no token is asked for
	do   func(*request) error
}

// request is one in work.
type request struct {
	*flightd.Request
	began bool // of the answer's body
	id    string
	done  func() // ends what id cancels
}

// cancellable makes the rest of the request one that its id cancels.
func (q *request) cancellable(h *handler, id string) {
	q.id = id
	q.Ctx, q.done = h.server.Cancellable(q.Ctx, id)
}

// serve does what an address is for.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, e endpoint) {
	q := &request{Request: h.requests.New(w, r), done: func() {}}
	var err error
	if q.Caller, err = h.identify(r); err != nil && !e.open {
		h.fail(w, refused("sign in with a valid token: ", err))
		return
	}
	known := func(err error) bool { return errors.As(err, new(*problem)) }
	err = q.Serve(e.name, e.open, maxOpenBody, known, func() error { return e.do(q) })
	q.done()
	if err != nil && q.began {
		h.remember(q.id, err)
		panic(http.ErrAbortHandler)
	} else if err != nil {
		h.fail(w, err)
	}
}

// names are the bucket and the table of a request.
func (q *request) names() (bucket, table string, err error) {
	v := q.URL.Query()
	bucket, table = v.Get("bucket"), v.Get("table")
	if table == "" {
		return "", "", invalid("table= is required")
	}
	return bucket, table, errors.Join(checkNames(bucket, table), q.Caller.MayUse(flightd.Read, bucket))
}

const cookieName = "partd-token"

// identify returns who makes a request: by the header's token, or the cookie's.
func (h *handler) identify(r *http.Request) (flightd.Caller, error) {
	token := ""
	if c, err := r.Cookie(cookieName); err == nil {
		token = c.Value
	}
	return h.server.Bearer(r, token)
}

// refused is the answer to a token that is not taken.
func refused(what string, err error) *problem {
	if errors.Is(err, flightd.ErrGuesses) {
		return &problem{Status: http.StatusTooManyRequests, Text: err.Error()}
	}
	return &problem{Status: http.StatusUnauthorized, Text: what + err.Error()}
}

// session answers with who the caller is.
func (h *handler) session(q *request) error {
	c := q.Caller
	s := struct {
		Secret   bool       `json:"secret"`
		SignedIn bool       `json:"signed_in"`
		Rights   string     `json:"rights"`
		Buckets  []string   `json:"buckets"`
		Expires  *time.Time `json:"expires"`
	}{Secret: h.opts.Secret != nil, SignedIn: c.Rights >= flightd.Read, Buckets: c.Buckets}
	s.Rights = map[flightd.Rights]string{flightd.None: "none", flightd.Read: "read", flightd.Admin: "admin"}[c.Rights]
	if !c.Expires.IsZero() {
		s.Expires = new(c.Expires.UTC())
	}
	return q.reply(s)
}

func (h *handler) signIn(q *request) error {
	var c struct {
		Token string `json:"token"`
	}
	if err := q.parse(&c); err != nil {
		return err
	}
	if h.opts.Secret != nil {
		caller, err := h.server.Verify(q.RemoteAddr, c.Token)
		if err != nil {
			return refused("the token is not valid: ", err)
		}
		h.setCookie(q, c.Token, 0)
		q.Caller = caller
	}
	return h.session(q)
}

func (h *handler) signOut(q *request) error {
	h.setCookie(q, "", -1)
	if h.opts.Secret != nil {
		q.Caller = flightd.Caller{}
	}
	return h.session(q)
}

func (h *handler) setCookie(q *request, token string, age int) {
	http.SetCookie(q.W, &http.Cookie{
		Name: cookieName, Value: token, Path: "/", MaxAge: age, HttpOnly: true, Secure: q.TLS != nil, SameSite: http.SameSiteStrictMode,
	})
}
