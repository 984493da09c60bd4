package namespaces

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/logstore"
)

// TestSessionsSurviveRestart checks that the token of a session in a namespace is still valid after a restart, although
// a compressing layer is over the store that keeps the session.
func TestSessionsSurviveRestart(t *testing.T) {
	dir := t.TempDir()
	openStore := func(_ context.Context, path string) (partd.Partd, error) {
		s, err := logstore.Open(filepath.Join(path, "data"), nil)
		if err != nil {
			return nil, err
		}
		return compress.New(s, compress.Zstd, nil)
	}
	with := func(f func(*lazy)) {
		set, err := New(dir, Options{MaxOpen: 1, Logger: slog.New(slog.DiscardHandler), Open: openStore})
		must(t, err)
		store, release := set.Acquire("a")
		f(store.(*lazy))
		release()
		must(t, set.Close(context.Background()))
	}
	var session uint64
	var token partd.SessionToken
	with(func(l *lazy) {
		var err error
		session, err = l.NewSession(t.Context())
		must(t, err)
		token, err = l.SessionToken(t.Context(), session)
		must(t, err)
	})
	with(func(l *lazy) {
		if err := l.CheckSession(t.Context(), session, token); err != nil {
			t.Errorf("the token is not valid after a restart: %v", err)
		}
		if err := l.CheckSession(t.Context(), session, partd.SessionToken{}); err == nil {
			t.Error("a wrong token is valid")
		}
	})
}
