package servercli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/command/namespaces"
	"github.com/go-partd/partd/internal/disk/space"
	"github.com/go-partd/partd/internal/server/metrics"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/remote"
)

// TestNamespaceDir checks that only stores that keep sessions can have namespaces. A buffer does
// not: its sessions are lost when its store is closed to make room for another namespace's store.
func TestNamespaceDir(t *testing.T) {
	for store, want := range map[string]string{
		"log:d": "d/namespaces", "log:///d?sync=true": "/d/namespaces", "zstd+log:d": "d/namespaces",
		"buffer+log:d": "", "buffer+zstd+log:d": "", "file:d": "", "mem:": "", "log:": "",
	} {
		if got := (&config{store: store, namespaces: 1}).namespaceDir(); got != want {
			t.Errorf("namespaceDir for the store %s = %q, want %q", store, got, want)
		}
	}
}

// TestRefusedChangesAreCounted checks that the metric counts refused changes in namespaces too.
func TestRefusedChangesAreCounted(t *testing.T) {
	fullDisk := space.Limits{MinFree: 1 << 20, Free: func() (int64, error) { return 0, nil }}
	own := must.Get(space.New(fullDisk))(t)
	set := must.Get(namespaces.New(t.TempDir(), namespaces.Options{MinFree: fullDisk.MinFree, Free: fullDisk.Free, MaxOpen: 1}))(t)
	for _, r := range []remote.SpaceLimit{own, set.SpaceLimit("a"), set.SpaceLimit("b")} {
		if _, err := r.Admit(1, 1); err == nil {
			t.Fatal("Admit accepted a change on a full disk")
		}
	}
	for _, b := range []*namespaces.Set{set, nil} {
		var text bytes.Buffer
		w := metrics.NewWriter(&text)
		(&serving{guard: own, namespaces: b, limits: new(spaceFlags)}).writeSpace(w)
		want := "partd_room_refused_total 3\n"
		if b == nil {
			want = "partd_room_refused_total 1\n"
		}
		if err := w.Flush(); err != nil || !strings.Contains(text.String(), want) {
			t.Errorf("want %s in the metrics, got %s, %v", want, &text, err)
		}
	}
}
