// Package rest serves tables as a catalog according to Iceberg's REST specification, for
// Spark, Trino, DuckDB, pyiceberg and other engines. docs/rest.md describes all of it.
package rest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
)

const (
	maxBody     = 16 << 20  // bytes of JSON
	mostPasses  = 12        // over as much, by the levels of it
	largeBody   = 256 << 10 // from which size on a body has a place of its own: it is decoded to a multiple
	maxOpenBody = 64 << 10  // without a token
)

// Options are the options of Handler. With the zero value, every load of a table folds it.
type Options struct {
	// FoldEvery is the least age of a table's newest version at which a load folds the
	// table.
	FoldEvery time.Duration

	// Storage tells clients how to reach the files, by properties such as s3.region.
	Storage map[string]string

	// Lend returns credentials for the files at a location, as properties for clients: to
	// read the files or, if write is set, also to write new ones. If Lend is nil, clients
	// get no credentials.
	Lend func(ctx context.Context, location string, write bool) (map[string]string, error)
}

// Handler serves the catalog of a store at /v1/. The tokens and limits of server, which
// must serve the same store, apply to its requests.
func Handler(server *flightd.Server, store *tables.Store, o Options) http.Handler {
	h := &handler{server: server, store: store, opts: server.Options(), own: o, requests: server.NewRequests()}
	mux := http.NewServeMux()
	for _, e := range h.endpoints() {
		mux.HandleFunc(e.pattern(), func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, e) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		h.fail(w, &problem{Code: http.StatusNotFound, Type: "NoSuchEndpointException", Message: "the catalog has no " + r.Method + " " + r.URL.Path + ": GET v1/config lists what it has"})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if err := server.Admits(r, true); err != nil {
			h.fail(w, err)
			return
		}
		if h.opts.TLS != nil && r.TLS == nil {
			h.fail(w, &problem{Code: http.StatusForbidden, Type: "ForbiddenException", Message: "this server has TLS: write https:// in the catalog's URI"})
			return
		}
		mux.ServeHTTP(w, r)
	})
}

type handler struct {
	server   *flightd.Server
	store    *tables.Store
	opts     flightd.Options
	own      Options
	requests *flightd.Requests
	reports  atomic.Int64 // of engines, so far
	reported atomic.Int64 // when one was logged last
}

// endpoint is what a method does at an address.
type endpoint struct {
	method, path string // as config lists them
	name         string // in the server's figures
	hidden       bool   // config does not list it
	open         bool   // no token is asked for
	writes       bool   // it takes a slot of the puts, and the right to write
	there        bool   // the namespace has to be there before it is asked for more
	do           func(*request) error
	in           func(*request, *tables.Bucket) error // the same, of the namespace in the path
}

// pattern is the endpoint for a router; there is no prefix.
func (e endpoint) pattern() string {
	return e.method + " " + strings.Replace(e.path, "/{prefix}", "", 1)
}

// endpoints are all that there are.
func (h *handler) endpoints() []endpoint {
	const (
		v1        = "/v1/{prefix}"
		namespace = v1 + "/namespaces/{namespace}"
		table     = namespace + "/tables/{table}"
	)
	all := []endpoint{
		{method: "GET", path: "/v1/config", name: "config", hidden: true, do: h.config},
		{method: "POST", path: "/v1/oauth/tokens", name: "token", hidden: true, open: true, do: h.token},
		{method: "GET", path: v1 + "/namespaces", name: "namespaces", do: h.listNamespaces},
		{method: "POST", path: v1 + "/namespaces", name: "create-namespace", writes: true, do: h.createNamespace},
		{method: "GET", path: namespace, name: "namespace", in: h.loadNamespace},
		{method: "HEAD", path: namespace, name: "namespace-exists", there: true, in: h.namespaceExists},
		{method: "DELETE", path: namespace, name: "drop-namespace", writes: true, there: true, in: h.dropNamespace},
		{method: "POST", path: namespace + "/properties", name: "namespace-properties", writes: true, in: h.namespaceProperties},
		{method: "GET", path: namespace + "/tables", name: "tables", there: true, in: h.listTables},
		{method: "POST", path: namespace + "/tables", name: "create-table", writes: true, there: true, in: h.createTable},
		{method: "POST", path: namespace + "/register", name: "register-table", writes: true, there: true, in: h.registerTable},
		{method: "GET", path: table, name: "table", in: h.loadTable},
		{method: "HEAD", path: table, name: "table-exists", in: h.tableExists},
		{method: "POST", path: table, name: "commit", writes: true, there: true, in: h.commitTable},
		{method: "DELETE", path: table, name: "drop-table", writes: true, in: h.dropTable},
		{method: "POST", path: table + "/metrics", name: "report", in: h.report},
		{method: "POST", path: v1 + "/tables/rename", name: "rename-table", writes: true, do: h.renameTable},
		{method: "POST", path: v1 + "/transactions/commit", name: "commit-transaction", writes: true, do: h.commitTransaction},
	}
	if h.own.Lend != nil {
		all = append(all, endpoint{method: "GET", path: table + "/credentials", name: "credentials", in: h.credentials})
	} else {
		all = append(all, refused(table+"/credentials", "keys to lend: partd-tables serve --rest-role names whose"))
	}
	for path, why := range map[string]string{
		namespace + "/views": "views", namespace + "/views/{view}": "views", namespace + "/register-view": "views", v1 + "/views/rename": "views",
		table + "/plan": "scan planning", table + "/plan/{plan}": "scan planning", table + "/tasks": "scan planning",
	} {
		all = append(all, refused(path, why))
	}
	return all
}

// refused is an endpoint of the specification that the catalog does not have.
func refused(path, what string) endpoint {
	return endpoint{path: path, name: "refused", hidden: true, do: func(*request) error {
		return &problem{Code: http.StatusNotAcceptable, Type: "UnsupportedOperationException", Message: "this catalog has no " + what}
	}}
}

// config tells clients what the catalog has.
func (h *handler) config(q *request) error {
	var listed []string
	for _, e := range h.endpoints() {
		if !e.hidden {
			listed = append(listed, e.method+" "+e.path)
		}
	}
	return q.reply(http.StatusOK, map[string]any{"defaults": map[string]string{}, "overrides": map[string]string{}, "endpoints": listed})
}

// request is one in work.
type request struct{ *flightd.Request }

// serve does what an endpoint is for.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, e endpoint) {
	q := &request{h.requests.New(w, r)}
	var err error
	if !e.open {
		if q.Caller, err = h.server.Bearer(r, ""); err != nil {
			h.fail(w, unauthorized(err))
			return
		}
	}
	known := func(err error) bool { return errors.As(err, new(*problem)) || errors.Is(err, partd.ErrUnknownOutcome) }
	if err := q.Serve("iceberg-"+e.name, e.open, maxOpenBody, known, func() error { return h.run(q, e) }); err != nil {
		h.fail(w, err)
	}
}

func (h *handler) run(q *request, e endpoint) error {
	right := flightd.Read
	if e.writes {
		right = flightd.Admin
		if err := q.Caller.MayUse(right); err != nil { // before the body is read
			return err
		}
		release, err := flightd.AcquirePut(q.Ctx)
		if err != nil {
			return err
		}
		defer release()
	}
	if e.in == nil {
		return e.do(q)
	}
	b, err := h.allowed(q, right, strings.Split(q.PathValue("namespace"), separator))
	if err == nil && e.there {
		err = exists(q, b)
	}
	if err != nil {
		return err
	}
	return missing(q, b, e.in(q, b))
}

func unauthorized(err error) error {
	if errors.Is(err, flightd.ErrGuesses) {
		return &problem{Code: http.StatusServiceUnavailable, Type: "SlowDownException", Message: err.Error()}
	}
	return &problem{Code: http.StatusUnauthorized, Type: "NotAuthorizedException", Message: "a valid token is needed (partd-tables token makes one): " + err.Error()}
}

// The kinds of grants.
const (
	byCredentials = "client_credentials"
	byExchange    = "urn:ietf:params:oauth:grant-type:token-exchange"
	tokenType     = "urn:ietf:params:oauth:token-type:access_token"
)

// token answers as OAuth2 does: the secret of a client is a token already, whatever the
// client's id, and is given back. So is a token that is exchanged for another, as clients
// do before one ends: who needs a longer one takes a new credential.
func (h *handler) token(q *request) error {
	refuse := func(code int, kind, text string) error {
		return q.reply(code, map[string]string{"error": kind, "error_description": text})
	}
	if err := q.ParseForm(); err != nil {
		return refuse(http.StatusBadRequest, "invalid_request", "the body has to be a form: "+err.Error())
	}
	var token string
	switch q.PostForm.Get("grant_type") {
	case byCredentials:
		var basic bool
		if _, token, basic = q.BasicAuth(); !basic {
			token = q.PostForm.Get("client_secret")
		}
	case byExchange:
		token = q.PostForm.Get("subject_token")
	default:
		return refuse(http.StatusBadRequest, "unsupported_grant_type", "it has to be "+byCredentials+" or "+byExchange)
	}
	c, err := h.server.Verify(q.RemoteAddr, token)
	if errors.Is(err, flightd.ErrGuesses) {
		return unauthorized(err)
	}
	if err != nil {
		return refuse(http.StatusUnauthorized, "invalid_client", "the client's secret is no valid token (partd-tables token makes one): "+err.Error())
	}
	answer := map[string]any{"access_token": token, "token_type": "bearer", "issued_token_type": tokenType}
	if h.opts.Secret == nil {
		answer["access_token"] = "none-is-needed"
	}
	if !c.Expires.IsZero() {
		answer["expires_in"] = int64(time.Until(c.Expires).Seconds())
	}
	return q.reply(http.StatusOK, answer)
}
