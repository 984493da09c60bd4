package cliutil

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestHealthIncompleteAnswer checks the error for an answer with status 200 that ends early.
func TestHealthIncompleteAnswer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "ready")
	}))
	defer server.Close()
	cmd := NewHealth(io.Discard, "partd-server")
	cmd.SetArgs([]string{server.URL})
	if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
		t.Errorf("health after an incomplete answer = %v, want an error with the reason", err)
	}
}
