package servercli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/metrics"
	"github.com/go-partd/partd/internal/namespaces"
	"github.com/go-partd/partd/internal/space"
	"github.com/go-partd/partd/remote"
)

// TestNamespaceDir gives namespaces to stores that keep sessions themselves: what a
// buffer remembers of them is gone when its store is closed for another.
func TestNamespaceDir(t *testing.T) {
	for store, want := range map[string]string{
		"log:d": "d/namespaces", "log:///d?sync=true": "/d/namespaces", "zstd+log:d": "d/namespaces",
		"buffer+log:d": "", "buffer+zstd+log:d": "", "file:d": "", "mem:": "", "log:": "",
	} {
		if got := (&config{store: store, namespaces: 1}).namespaceDir(); got != want {
			t.Errorf("%s has namespaces in %q, want %q", store, got, want)
		}
	}
}

// TestRefusedAreCounted counts what was refused of namespaces, too.
func TestRefusedAreCounted(t *testing.T) {
	full := space.Limits{MinFree: 1 << 20, Free: func() (int64, error) { return 0, nil }}
	own, err := space.New(full)
	if err != nil {
		t.Fatal(err)
	}
	beside, err := namespaces.New(t.TempDir(), namespaces.Options{MinFree: full.MinFree, Free: full.Free, MaxOpen: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []remote.Room{own, beside.Room("a"), beside.Room("b")} {
		if _, err := r.Take(1, 1); err == nil {
			t.Fatal("nothing is refused")
		}
	}
	for _, b := range []*namespaces.Set{beside, nil} {
		var text bytes.Buffer
		w := metrics.NewWriter(&text)
		(&serving{guard: own, beside: b, limits: new(roomFlags)}).writeRoom(w)
		want := "partd_room_refused_total 3\n"
		if b == nil {
			want = "partd_room_refused_total 1\n"
		}
		if err := w.Flush(); err != nil || !strings.Contains(text.String(), want) {
			t.Errorf("want %s, it says %s, %v", want, &text, err)
		}
	}
}
