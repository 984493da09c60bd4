package logstore

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestDropWithoutNewFile checks that Drop succeeds if the store then cannot begin a write-ahead file, for example
// because the process has too many open files. Changes fail until a file can be created, and do not blame the disk.
func TestDropWithoutNewFile(t *testing.T) {
	var fails atomic.Bool
	h := crashHooks
	h.fs = vfstest.Inject(vfstest.NewMem(), func(op vfstest.Op, path string) error {
		if fails.Load() && op == vfstest.OpOpen && strings.Contains(path, "wal-") {
			return syscall.EMFILE
		}
		return nil
	})
	s := openWith(t, crashDir, nil, h)
	mustAppend(t, s, "k", "old")
	fails.Store(true)
	must.Do(t, s.Drop(t.Context()))
	err := s.Set(t.Context(), "k", []byte("v"))
	if !errors.Is(err, syscall.EMFILE) || strings.Contains(err.Error(), "disk is full") {
		t.Errorf("Set without a write-ahead file: error %v, want EMFILE, and no mention of a full disk", err)
	}
	wantValue(t, s, "k", "")
	if err := s.Drop(t.Context()); err != nil {
		t.Errorf("Drop without a write-ahead file: error %v", err)
	}
	fails.Store(false)
	mustAppend(t, s, "k", "new")
	wantValue(t, s, "k", "new")
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
