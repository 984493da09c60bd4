package page

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/lineprotocol"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// influxPaths are the paths for clients of InfluxDB, with the two for writes first; see docs/line-protocol.md.
var influxPaths = []string{"/write", "/api/v2/write", "/ping", "/health"}

// influxHandler serves influxPaths. Unlike the page's API, it ignores cookies: a page on another site cannot write with
// the token of a user who has signed in, so requests need no header X-Partd.
func (h *handler) influxHandler() http.Handler {
	mux := http.NewServeMux()
	e := endpoint{name: "http-write", anyParams: true, handle: h.writeLines, identify: h.identifyInflux, fail: h.failInflux}
	for _, path := range influxPaths[:2] {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			if err := h.checkInfluxSite(r); err != nil {
				h.failInflux(w, err)
				return
			}
			h.serve(w, r, e)
		})
	}
	mux.HandleFunc("GET /ping", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Influxdb-Version", h.influxVersion())
		w.Header().Set("X-Influxdb-Build", "partd-tables")
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /health", h.influxHealth)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(influxPaths, r.URL.Path) {
			h.failInflux(w, kinds.NoSuchPath.Errorf("no such path: %.100q: clients of InfluxDB can use only %q", r.URL.Path, influxPaths))
			return
		}
		h.failInflux(w, kinds.MethodNotAllowed.Errorf("%s does not support the method %s", r.URL.Path, r.Method))
	})
	return mux
}

// isInflux reports whether a path belongs to InfluxDB's API, even if influxHandler has no such path.
func isInflux(path string) bool {
	return slices.Contains(influxPaths, path) || path == "/query" || strings.HasPrefix(path, "/api/v2/") || strings.HasPrefix(path, "/api/v3/")
}

func (h *handler) influxVersion() string {
	return strings.TrimSpace("partd-tables " + h.opts.Version)
}

func (h *handler) influxHealth(w http.ResponseWriter, _ *http.Request) {
	code, state, message := http.StatusOK, "pass", "ready for writes"
	if err := h.server.Ready(); err != nil {
		code, state, message = http.StatusServiceUnavailable, "fail", err.Error()
	}
	health := map[string]any{"name": "partd-tables", "status": state, "message": message, "version": h.influxVersion(), "checks": []string{}}
	serving.WriteJSON(w, h.opts.IdleTimeout, code, health, "")
}

// checkInfluxSite returns an error for a request that may come from another site or, without a secret, from another
// machine.
func (h *handler) checkInfluxSite(r *http.Request) error {
	if h.opts.TLS != nil && r.TLS == nil {
		return fmt.Errorf("this server requires TLS: use https:// in the client's URL: %w", fs.ErrPermission)
	}
	if h.opts.Secret == nil {
		if r.Header.Get("Origin") != "" {
			return fmt.Errorf("the request has the header Origin, so a browser sent it: start the server with --secret-file: %w", fs.ErrPermission)
		}
		if ip := net.ParseIP(serving.HostOf(r.RemoteAddr)); !ip.IsLoopback() {
			return fmt.Errorf("the request comes from another machine: start the server with --secret-file: %w", fs.ErrPermission)
		}
	}
	return h.server.CheckSite(r, true)
}

// identifyInflux verifies the token of a request by a client of either version of InfluxDB's API.
func (h *handler) identifyInflux(r *http.Request) (serving.Caller, error) {
	token := r.URL.Query().Get("p")
	if scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Token") {
		token = value
	} else if _, password, ok := r.BasicAuth(); ok {
		token = password
	}
	return h.server.Bearer(r, token)
}

func (h *handler) writeLines(q *request) error {
	v := q.URL.Query()
	bucket := cmp.Or(v.Get("bucket"), v.Get("db"))
	if err := cmp.Or(checkNames(bucket), q.Caller.CheckAccess(serving.Admin, bucket)); err != nil {
		return err
	}
	serving.Note(q.Ctx, bucket, "")
	lines, err := q.readLines()
	if err != nil {
		return err
	}
	points, err := lineprotocol.Parse(lines, v.Get("precision"), time.Now(), func(n int64) error { return q.Charge(linesMemory(len(lines)) + n) })
	if err != nil {
		return err
	}
	serving.Note(q.Ctx, bucket, "", points.Names()...)
	if err := points.Put(q.Ctx, h.store, bucket, v.Get("id"), serving.AcquirePut); err != nil {
		return err
	}
	serving.WriteStatus(q.W, q.ReadTimeout, http.StatusNoContent)
	return nil
}

// linesMemory returns the memory for reading n bytes into a buffer that grows, and for the text in the points.
func linesMemory(n int) int64 { return 4 * int64(n) }

// readLines reads the body, and unpacks it if it is compressed.
func (q *request) readLines() ([]byte, error) {
	body := http.MaxBytesReader(q.W, q.Body, lineprotocol.MaxBody)
	encoding := q.Header.Get("Content-Encoding")
	switch encoding {
	case "", "identity":
	case "gzip":
		unpacked, err := gzip.NewReader(body)
		if err != nil {
			return nil, blame(err, "the body is not valid gzip: %s")
		}
		body = http.MaxBytesReader(q.W, unpacked, lineprotocol.MaxBody)
	default:
		return nil, kinds.MediaType.Errorf("Content-Encoding is %.40q: it must be gzip or identity", encoding)
	}
	const step = 256 << 10 // memory is reserved before each step
	var lines bytes.Buffer
	for {
		if err := q.Charge(linesMemory(lines.Len() + step)); err != nil {
			return nil, err
		}
		_, err := io.CopyN(&lines, body, step)
		switch {
		case err == io.EOF: //nolint:errorlint // CopyN does not wrap io.EOF
			return lines.Bytes(), nil
		case err != nil && encoding == "gzip":
			return nil, blame(err, "the body is not valid gzip: %s")
		case err != nil:
			return nil, err
		}
	}
}

// failInflux answers with an error in the format of both versions of InfluxDB's API.
func (h *handler) failInflux(w http.ResponseWriter, err error) {
	p := h.publicProblem(err)
	code := p.HTTP
	if p.Influx == kinds.InfluxRetries { // clients repeat a write only after 429 and 5xx
		code = http.StatusServiceUnavailable
	}
	if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	answer := struct {
		*problem        // its field "error" contains the text, as in version 1
		Code     string `json:"code"`
		Message  string `json:"message"`
	}{p, p.Influx, p.Text}
	serving.WriteJSON(w, h.opts.IdleTimeout, code, answer, "")
}
