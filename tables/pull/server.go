package pull

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"time"
)

const (
	// URL paths begin with the version of the protocol between nodes.
	filePath   = "/v1/files/"
	headPath   = "/v1/heads/"
	verifyPath = "/v1/verify"

	maxServed = 64 // maximum number of concurrent requests
)

// fileServer serves a node's files and newest versions to other nodes.
type fileServer struct {
	*env
	verify func(context.Context) ([]Finding, error) // checks this directory
}

// newServer returns the HTTP server that other nodes connect to. It serves files by hash and each table's newest version
// by table key. It checks the whole directory on request. Clients cannot access anything else in the directory.
func newServer(s *fileServer) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+filePath+"{hash}", s.serveFile)
	mux.HandleFunc("GET "+headPath+"{key}", s.serveNewestVersion)
	mux.HandleFunc("POST "+verifyPath, s.serveVerify)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { // not 404, which means that this node has no copy
		http.Error(w, "unknown request: this node may need an upgrade", http.StatusNotImplemented)
	})
	slots := make(chan struct{}, maxServed)
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !s.authorized(r) {
				http.Error(w, "missing or invalid token: use this node's token", http.StatusUnauthorized)
				return
			}
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
				mux.ServeHTTP(w, r)
			default:
				http.Error(w, "too many concurrent requests: try again", http.StatusServiceUnavailable)
			}
		}),
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		ReadTimeout: s.opts.Lease, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
	}
}

// authorized reports whether a request has the right token, or the node requires none. TLS
// has already checked client certificates.
func (s *fileServer) authorized(r *http.Request) bool {
	want, got := sha256.Sum256([]byte("Bearer "+s.opts.Token)), sha256.Sum256([]byte(r.Header.Get("Authorization")))
	return s.opts.Token == "" || subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

func (s *fileServer) serveFile(w http.ResponseWriter, r *http.Request) {
	hash := r.PathValue("hash")
	if !isHash(hash) {
		http.Error(w, "the file's hash is invalid", http.StatusBadRequest)
		return
	}
	f, err := os.Open(s.disk.Path(hash)) // the other node checks the hash of what it receives
	if err != nil {
		http.Error(w, "this node does not have the file", http.StatusNotFound)
		return
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		http.Error(w, "this node does not have the file", http.StatusNotFound)
		return
	}
	deadline := time.Now().Add(s.transferTimeout(info.Size()))
	if err := http.NewResponseController(w).SetWriteDeadline(deadline); err != nil {
		http.Error(w, "the server could not set a deadline for the transfer", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, f)
}

func (s *fileServer) serveNewestVersion(w http.ResponseWriter, r *http.Request) {
	key := r.PathValue("key")
	if !isHash(key) {
		http.Error(w, "the table's key is invalid", http.StatusBadRequest)
		return
	}
	h, err := s.disk.head(key)
	if err == nil && h.Version == 0 {
		http.Error(w, "this node does not have the table", http.StatusNotFound)
		return
	}
	writeJSON(w, h.record, err)
}

// serveVerify checks this directory and sends the findings. Until then it sends spaces, so
// that the client knows that the server is alive.
func (s *fileServer) serveVerify(w http.ResponseWriter, r *http.Request) {
	done := make(chan []Finding, 1)
	go func() {
		findings, err := s.verify(r.Context())
		if err != nil {
			findings = append(findings, Finding{Problem: err.Error()})
		}
		done <- findings
	}()
	ticker := time.NewTicker(s.opts.Lease / 3)
	defer ticker.Stop()
	for {
		select {
		case findings := <-done:
			writeJSON(w, findings, nil)
			return
		case <-ticker.C:
			_, _ = w.Write([]byte(" "))               // If this fails, the request's context ends.
			_ = http.NewResponseController(w).Flush() // fails like Write
		}
	}
}

func writeJSON(w http.ResponseWriter, a any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a) // the client may be gone
}
