// Package rest serves tables as an Iceberg REST catalog, for Spark, Trino, DuckDB, pyiceberg and other engines. See
// docs/rest.md.
package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/internal/files/icecat"
)

const (
	maxBody       = 16 << 20  // maximum size of a JSON body, in bytes
	largeBody     = 256 << 10 // larger bodies count towards serving.MaxLargeRequests
	maxPublicBody = 64 << 10  // maximum size of the body of a request without a token
)

// Options configures Handler.
type Options struct {
	// FoldEvery limits how often loading a table folds it, which writes data files for rows that have none yet: a load
	// folds only if the table's newest version is at least this old. Zero means that every load folds.
	FoldEvery time.Duration

	// Storage contains the properties with which clients access the files, such as s3.region.
	Storage map[string]string

	// Lend returns credentials for the files at a location, as properties for clients. The credentials allow reading
	// files and, if write is true, writing new files. If Lend is nil, clients need their own credentials.
	Lend func(ctx context.Context, location string, write bool) (map[string]string, error)
}

// Handler returns a handler that serves a store's catalog at /v1/. server is the Core of a flightd.Server for the same
// store. Requests need the same tokens as Flight calls and count towards the same limits.
func Handler(server *serving.Core, store *tables.Store, o Options) http.Handler {
	h := &handler{server: server, store: store, opts: server.Options(), rest: o, requests: server.NewRequests(), turns: turns{running: map[string]chan struct{}{}}}
	mux := http.NewServeMux()
	for _, e := range h.endpoints() {
		mux.HandleFunc(e.pattern(), func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, e) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		h.fail(w, kinds.NoSuchPath.Errorf("the catalog has no %s %s: GET v1/config lists its endpoints", r.Method, r.URL.Path))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if err := server.CheckSite(r, true); err != nil {
			h.fail(w, err)
			return
		}
		if h.opts.TLS != nil && r.TLS == nil {
			h.fail(w, kinds.Permission.Errorf("this server requires TLS: use https:// in the catalog's URI"))
			return
		}
		mux.ServeHTTP(w, withJavaSpaces(r))
	})
}

// withJavaSpaces returns r or, if Iceberg Java before 1.12 sent r, a copy with each "+" in the path replaced by a
// space. Such clients encode a space as "+", and a plus sign as "%2B". Other clients send "+" for a plus sign.
func withJavaSpaces(r *http.Request) *http.Request {
	var major, minor int
	if _, err := fmt.Sscanf(r.Header.Get("X-Client-Version"), "Apache Iceberg %d.%d", &major, &minor); err != nil || major > 1 || major == 1 && minor >= 12 {
		return r
	}
	escaped := strings.ReplaceAll(r.URL.EscapedPath(), "+", "%20")
	decoded, err := url.PathUnescape(escaped)
	if err != nil || decoded == r.URL.Path {
		return r
	}
	corrected := *r
	corrected.URL = new(*r.URL)
	corrected.URL.Path, corrected.URL.RawPath = decoded, escaped
	return &corrected
}

type handler struct {
	server     *serving.Core
	store      *tables.Store
	opts       serving.Options
	rest       Options
	requests   *serving.Requests
	reports    atomic.Int64 // number of reports received from engines
	lastReport atomic.Int64 // when a report was last logged, in Unix seconds
	turns      turns
}

type endpoint struct {
	method, path string // as the endpoint /v1/config lists them
	name         string // name in the server's metrics
	hidden       bool   // not listed by /v1/config
	isPublic     bool   // requires no token
	writes       bool   // requires the right to write and counts towards the limit on puts
	mustExist    bool   // requires that the namespace in the path exists
	handle       func(*request) error
	// set instead of handle if the path contains a namespace; called with the namespace's bucket
	inNamespace func(*request, *tables.Bucket) error
}

// pattern returns the endpoint's pattern for the router. It omits {prefix}, which Iceberg's specification allows in
// paths, but this catalog does not use.
func (e endpoint) pattern() string {
	return e.method + " " + strings.Replace(e.path, "/{prefix}", "", 1)
}

func (h *handler) endpoints() []endpoint {
	const (
		v1        = "/v1/{prefix}"
		namespace = v1 + "/namespaces/{namespace}"
		table     = namespace + "/tables/{table}"
	)
	all := []endpoint{
		{method: "GET", path: "/v1/config", name: "config", hidden: true, handle: h.config},
		{method: "POST", path: "/v1/oauth/tokens", name: "token", hidden: true, isPublic: true, handle: h.token},
		{method: "GET", path: v1 + "/namespaces", name: "namespaces", handle: h.listNamespaces},
		{method: "POST", path: v1 + "/namespaces", name: "create-namespace", writes: true, handle: h.createNamespace},
		{method: "GET", path: namespace, name: "namespace", mustExist: true, inNamespace: h.loadNamespace},
		{method: "HEAD", path: namespace, name: "namespace-exists", mustExist: true, inNamespace: h.namespaceExists},
		{method: "DELETE", path: namespace, name: "drop-namespace", writes: true, mustExist: true, inNamespace: h.dropNamespace},
		{method: "POST", path: namespace + "/properties", name: "namespace-properties", writes: true, mustExist: true, inNamespace: h.namespaceProperties},
		{method: "GET", path: namespace + "/tables", name: "tables", mustExist: true, inNamespace: h.listTables},
		{method: "POST", path: namespace + "/tables", name: "create-table", writes: true, mustExist: true, inNamespace: h.createTable},
		{method: "POST", path: namespace + "/register", name: "register-table", writes: true, mustExist: true, inNamespace: h.registerTable},
		{method: "GET", path: table, name: "table", inNamespace: h.loadTable},
		{method: "HEAD", path: table, name: "table-exists", inNamespace: h.tableExists},
		{method: "POST", path: table, name: "commit", writes: true, mustExist: true, inNamespace: h.commitTable},
		{method: "DELETE", path: table, name: "drop-table", writes: true, inNamespace: h.dropTable},
		{method: "POST", path: table + "/metrics", name: "report", inNamespace: h.report},
		{method: "POST", path: v1 + "/tables/rename", name: "rename-table", writes: true, handle: h.renameTable},
		{method: "POST", path: v1 + "/transactions/commit", name: "commit-transaction", writes: true, handle: h.commitTransaction},
	}
	if h.rest.Lend != nil {
		all = append(all, endpoint{method: "GET", path: table + "/credentials", name: "credentials", inNamespace: h.credentials})
	} else {
		all = append(all, unsupported(table+"/credentials", "credentials for clients: start the server with --rest-role"))
	}
	for path, feature := range map[string]string{
		namespace + "/views": "views", namespace + "/views/{view}": "views", namespace + "/register-view": "views", v1 + "/views/rename": "views",
		table + "/plan": "scan planning", table + "/plan/{plan}": "scan planning", table + "/tasks": "scan planning",
	} {
		all = append(all, unsupported(path, feature))
	}
	return all
}

// unsupported returns an endpoint of Iceberg's specification that always fails, because the catalog lacks the feature.
func unsupported(path, feature string) endpoint {
	return endpoint{path: path, name: "refused", hidden: true, handle: func(*request) error {
		return kinds.Unsupported.Errorf("this catalog has no %s", feature)
	}}
}

func (h *handler) config(q *request) error {
	var endpoints []string
	for _, e := range h.endpoints() {
		if !e.hidden {
			endpoints = append(endpoints, e.method+" "+e.path)
		}
	}
	return q.reply(http.StatusOK, map[string]any{
		"defaults": map[string]string{}, "overrides": map[string]string{}, "endpoints": endpoints,
		"idempotency-key-lifetime": fmt.Sprintf("PT%dH", int(icecat.KeyLifetime.Hours())),
	})
}

type request struct {
	*serving.Request
	body []byte      // set by readBody
	cost int64       // memory for decoding the body, in bytes; set by parse
	key  *icecat.Key // the request's idempotency key; nil if it has none
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request, e endpoint) {
	q := &request{Request: h.requests.New(w, r)}
	var err error
	if !e.isPublic {
		q.Caller, err = h.server.Bearer(r, "")
		if err != nil {
			h.requests.RecordRefused(r, "iceberg-"+e.name, err)
			h.fail(w, serving.TokenError(needsToken, err))
			return
		}
	}
	err = q.Serve("iceberg-"+e.name, e.isPublic, maxPublicBody, func() error {
		serving.Note(q.Ctx, q.PathValue("namespace"), "", q.PathValue("table"))
		return h.run(q, e)
	})
	if err != nil {
		h.fail(w, err)
	}
}

func (h *handler) run(q *request, e endpoint) (err error) {
	right := serving.Read
	if e.writes {
		right = serving.Admin
		if err := q.Caller.CheckAccess(right); err != nil { // fail before the endpoint reads the body
			return err
		}
	}
	if e.inNamespace == nil {
		return h.runOnce(q, e, nil, func() error { return e.handle(q) })
	}
	namespace := strings.Split(q.PathValue("namespace"), separator)
	var b *tables.Bucket
	if strings.Contains(e.path, "{table}") {
		b, err = h.bucketOfTable(q, right, identifier{namespace, q.PathValue("table")})
	} else {
		b, err = h.bucketFor(q, right, namespace)
	}
	if err != nil {
		return err
	}
	return h.runOnce(q, e, b, func() error {
		if e.mustExist {
			if err := checkExists(q, b); err != nil {
				return err
			}
		}
		return e.inNamespace(q, b)
	})
}

// runOnce calls handle. If the request changes the catalog and has an idempotency key, runOnce calls handle through
// once. While the request waits for another request with the same key, it holds no put slot.
func (h *handler) runOnce(q *request, e endpoint, b *tables.Bucket, handle func() error) error {
	if !e.writes {
		return handle()
	}
	change := func() error {
		release, err := serving.AcquirePut(q.Ctx)
		if err != nil {
			return err
		}
		defer release()
		return handle()
	}
	if len(q.Header.Values(keyHeader)) > 0 {
		return h.once(q, b, change)
	}
	return change()
}

// needsToken begins the error for a request whose token is rejected.
const needsToken = "the request needs a valid token (partd-tables token creates one)"

const (
	grantCredentials = "client_credentials"
	grantExchange    = "urn:ietf:params:oauth:grant-type:token-exchange"
	tokenType        = "urn:ietf:params:oauth:token-type:access_token"
)

// token is the OAuth2 token endpoint. A client's secret is already a token, so token returns the secret unchanged; the
// client's ID does not matter. A client that exchanges a token before it expires receives the same token.
func (h *handler) token(q *request) error {
	refuse := func(code int, kind, text string) error {
		return q.reply(code, map[string]string{"error": kind, "error_description": text})
	}
	if err := q.ParseForm(); err != nil {
		return refuse(http.StatusBadRequest, "invalid_request", "the body must be a form: "+err.Error())
	}
	var token string
	switch q.PostForm.Get("grant_type") {
	case grantCredentials:
		var isBasic bool
		_, token, isBasic = q.BasicAuth()
		if !isBasic {
			token = q.PostForm.Get("client_secret")
		}
	case grantExchange:
		token = q.PostForm.Get("subject_token")
	default:
		return refuse(http.StatusBadRequest, "unsupported_grant_type", "grant_type must be "+grantCredentials+" or "+grantExchange)
	}
	c, err := h.server.Verify(q.RemoteAddr, token)
	if errors.Is(err, serving.ErrTooManyGuesses) {
		return serving.TokenError(needsToken, err)
	}
	if err != nil {
		return refuse(http.StatusUnauthorized, "invalid_client", "the client's secret is not a valid token (partd-tables token creates one): "+err.Error())
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
