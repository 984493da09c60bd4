// Package page serves tables to web browsers: a page that is embedded in the program, and the API that the page calls.
// docs/http.md and docs/dev/tables-wire.md describe this API. At the same address, it accepts writes by clients of
// InfluxDB; see docs/line-protocol.md.
package page

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

const (
	maxBody       = 1 << 20  // maximum size of a JSON body, in bytes
	largeBody     = 64 << 10 // larger JSON bodies count towards MaxLargeRequests: decoding multiplies their size
	maxPublicBody = 16 << 10 // maximum size of the body of a request without a token
	maxFailures   = 1000     // number of recent failures that a handler keeps for GET /api/query/{id}/error
)

// Options configures Handler.
type Options struct {
	URL     string // URL of the Flight server, which the page inserts into command lines
	formats formats.Set
}

// UseFormats replaces the standard formats of uploads and downloads. It is for this module only: formats is internal.
func (o *Options) UseFormats(set formats.Set) { o.formats = set }

type handler struct {
	server   *serving.Core
	store    *tables.Store
	opts     serving.Options
	url      string
	requests *serving.Requests
	formats  formats.Set
	isolated *formats.IsolatedReader
	counts   countCache

	mu       sync.Mutex
	failures []failure // oldest first
}

// Handler returns a handler that serves the page for a store. server is the Core of a flightd.Server for the same
// store. Requests from the page need the same tokens as Flight calls and count towards the same limits.
func Handler(server *serving.Core, store *tables.Store, o Options) http.Handler {
	h := &handler{server: server, store: store, opts: server.Options(), url: o.URL, requests: server.NewRequests(), formats: o.formats}
	h.isolated = formats.NewIsolatedReader(h.opts.Memory / 2)
	api := http.NewServeMux()
	for pattern, e := range h.endpoints() {
		_, path, _ := strings.Cut(pattern, " ")
		e.identify, e.fail = h.identify, h.fail
		e.name = "http-" + strings.TrimPrefix(strings.ReplaceAll(path, "/{id}/", "-"), "/api/")
		api.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, e) })
	}
	unknown := func(w http.ResponseWriter, r *http.Request) {
		// if the router knows the path with the other method, r has the wrong method
		if _, pattern := api.Handler(&http.Request{Method: map[bool]string{true: "POST", false: "GET"}[r.Method == http.MethodGet], URL: r.URL, Host: r.Host}); pattern != "/api/" && pattern != "" {
			h.fail(w, kinds.MethodNotAllowed.Errorf("%s does not support the method %s", r.URL.Path, r.Method))
			return
		}
		h.fail(w, kinds.NoSuchPath.Errorf("no such path: %s", r.URL.Path))
	}
	api.HandleFunc("/api/", unknown)
	root := http.NewServeMux()
	root.Handle("/api/", api)
	root.Handle("/", fileHandler())
	influx := h.influxHandler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		if isInflux(r.URL.Path) {
			influx.ServeHTTP(w, r)
			return
		}
		if err := h.checkOrigin(r); err != nil {
			h.fail(w, err)
			return
		}
		if h.opts.TLS != nil && r.TLS == nil {
			http.Redirect(w, r, "https://"+r.Host+r.URL.RequestURI(), http.StatusPermanentRedirect)
			return
		}
		root.ServeHTTP(w, r)
	})
}

// endpoints returns the page's API, by patterns for the router.
func (h *handler) endpoints() map[string]endpoint {
	params := func(names ...string) []string { return strings.Fields(strings.Join(names, " ")) }
	const (
		state     = "bucket table version snapshot "
		view      = state + "sort filter id"
		statement = "sql before_version before_snapshot"
	)
	put := params("bucket table mode format file time keys id dry")
	for _, option := range formats.Options(new(records.TextOptions)) {
		put = append(put, option.Name)
	}
	return map[string]endpoint{
		"GET /api/session":          {isPublic: true, handle: h.session},
		"POST /api/sign-in":         {isPublic: true, handle: h.signIn},
		"POST /api/sign-out":        {isPublic: true, handle: h.signOut},
		"GET /api/tree":             {handle: h.tree, params: params("bucket snapshot search after_bucket after limit")},
		"GET /api/table":            {handle: h.table, params: params(state)},
		"GET /api/rows":             {handle: h.rows, params: params(view, "offset limit")},
		"GET /api/changes":          {handle: h.changes, params: params(state, "format since since_snapshot keys uuid id")},
		"GET /api/follow":           {handle: h.follow, params: params("bucket table since since_snapshot keys uuid every")},
		"GET /api/profile":          {handle: h.profile, params: params(view, statement, "column")},
		"POST /api/query":           {handle: h.query},
		"POST /api/cancel":          {handle: h.cancel},
		"GET /api/query/{id}/error": {handle: h.failure},
		"GET /api/download":         {handle: h.download, params: params(view, statement, "format")},
		"POST /api/put":             {handle: h.put, params: put},
		"POST /api/action":          {handle: h.action, params: params("dry")},
	}
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

// checkOrigin returns an error unless a request comes from this page, or from a program other than a browser.
func (h *handler) checkOrigin(r *http.Request) error {
	if err := h.server.CheckSite(r, strings.HasPrefix(r.URL.Path, "/api/")); err != nil {
		return err
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Header.Get("X-Partd") != "1" {
		return kinds.Permission.Errorf("the request lacks the header \"X-Partd: 1\": add it to show that the request does not come from another site")
	}
	return nil
}

type endpoint struct {
	name      string
	isPublic  bool     // requires no token
	params    []string // names of the accepted query parameters
	anyParams bool     // accepts any parameter: clients of InfluxDB send some that this server ignores
	handle    func(*request) error
	identify  func(*http.Request) (serving.Caller, error)
	fail      func(http.ResponseWriter, error)
}

// checkParams returns an error if u has an unknown parameter. If the endpoint ignored a misspelled condition, it would
// return other rows than the client asked for.
func (e *endpoint) checkParams(u *url.URL) error {
	for name := range u.Query() {
		if !e.anyParams && !slices.Contains(e.params, name) {
			return invalid("the parameter %.40q is unknown: %s accepts %s", name, u.Path, cmp.Or(strings.Join(e.params, ", "), "none"))
		}
	}
	return nil
}

type request struct {
	*serving.Request
	hasBody    bool   // whether part of the response body has been sent
	id         string // ID with which the client can cancel the request; set by cancellable
	unregister func() // unregisters id
}

// cancellable lets the client cancel the request by id.
func (q *request) cancellable(h *handler, id string) {
	q.id = id
	q.Ctx, q.unregister = h.server.Cancellable(q.Ctx, id)
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request, e endpoint) {
	q := &request{Request: h.requests.New(w, r), unregister: func() {}}
	var err error
	q.Caller, err = e.identify(r)
	if err != nil && !e.isPublic {
		h.requests.RecordRefused(r, e.name, err)
		e.fail(w, serving.TokenError("sign in with a valid token", err))
		return
	}
	defer func() { q.unregister() }() // even if the handler panics
	err = q.Serve(e.name, e.isPublic, maxPublicBody, func() error {
		if err := e.checkParams(q.URL); err != nil {
			return err
		}
		v := q.URL.Query()
		serving.Note(q.Ctx, v.Get("bucket"), v.Get("sql"), v.Get("table"))
		return e.handle(q)
	})
	if q.hasBody {
		_ = q.Control.SetWriteDeadline(time.Now().Add(q.ReadTimeout)) // for the last bytes; fails only if the connection is closed
	}
	if err != nil && q.hasBody {
		h.rememberFailure(q.id, err)
		panic(http.ErrAbortHandler) // breaks off the response, so that the client notices that rows are missing
	} else if err != nil {
		e.fail(w, err)
	}
}

// names returns the names of the request's bucket and table, after checking that the caller may read them.
func (q *request) names() (bucket, table string, err error) {
	v := q.URL.Query()
	bucket, table = v.Get("bucket"), v.Get("table")
	if table == "" {
		return "", "", invalid("table= is required")
	}
	return bucket, table, cmp.Or(checkNames(bucket, table), q.Caller.CheckAccess(serving.Read, bucket))
}

const cookieName = "partd-token"

func (h *handler) identify(r *http.Request) (serving.Caller, error) {
	token := ""
	if c, err := r.Cookie(cookieName); err == nil {
		token = c.Value
	}
	return h.server.Bearer(r, token)
}

func (h *handler) session(q *request) error {
	c := q.Caller
	s := struct {
		Secret   bool       `json:"secret"`
		SignedIn bool       `json:"signed_in"`
		Rights   string     `json:"rights"`
		Buckets  []string   `json:"buckets"`
		Expires  *time.Time `json:"expires"`
	}{Secret: h.opts.Secret != nil, SignedIn: c.Rights >= serving.Read, Buckets: c.Buckets}
	s.Rights = map[serving.Rights]string{serving.None: "none", serving.Read: "read", serving.Admin: "admin"}[c.Rights]
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
			return serving.TokenError("the token is not valid", err)
		}
		h.setCookie(q, c.Token, 0)
		q.Caller = caller
	}
	return h.session(q)
}

func (h *handler) signOut(q *request) error {
	h.setCookie(q, "", -1)
	if h.opts.Secret != nil {
		q.Caller = serving.Caller{}
	}
	return h.session(q)
}

func (h *handler) setCookie(q *request, token string, age int) {
	http.SetCookie(q.W, &http.Cookie{
		Name: cookieName, Value: token, Path: "/", MaxAge: age, HttpOnly: true, Secure: q.TLS != nil, SameSite: http.SameSiteStrictMode,
	})
}
