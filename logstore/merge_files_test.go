package logstore

import (
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestMergeOfUnknownOutcome checks that if it is unknown whether the manifest was replaced, the
// files of both manifests remain, and that Close closes all of them.
func TestMergeOfUnknownOutcome(t *testing.T) {
	for _, isRenamed := range []bool{false, true} { // whether the new manifest is in place
		var openFiles atomic.Int64
		var armed, renamed atomic.Bool
		mem := vfstest.NewMem()
		want := manySessions(t, mem, 10)
		h := mergeHooks
		h.minMerge = -1
		h.fs = countOpens{vfstest.Inject(mem, func(op vfstest.Op, name string) error {
			if strings.Contains(name, "seg-") && op == vfstest.OpClose {
				openFiles.Add(-1)
			}
			if op == vfstest.OpRename && armed.Load() {
				if renamed.Store(isRenamed); !isRenamed {
					return syscall.EIO
				}
			}
			if op == vfstest.OpSyncDir && renamed.Load() {
				return syscall.EIO
			}
			return nil
		}), &openFiles}
		s := openWith(t, "/s", nil, h)
		armed.Store(true)
		mergeNow(t, s, 4)
		wantMerged(t, s, want)
		if err := s.Close(); !errors.Is(err, partd.ErrNeedsReopen) || openFiles.Load() != 0 {
			t.Errorf("Close: error %v, want ErrNeedsReopen; %d segment files are still open, want 0", err, openFiles.Load())
		}
		h.fs = mem
		s = openWith(t, "/s", nil, h)
		wantMerged(t, s, want)
		must.Do(t, s.Close())
	}
}

// TestMergeWithReaderOfClosedStore checks that a reader that was opened before Close returns the
// correct value afterwards, even if another process merges segments.
func TestMergeWithReaderOfClosedStore(t *testing.T) {
	for _, readOnly := range []bool{false, true} {
		mem := vfstest.NewMem()
		h := mergeHooks
		h.fs, h.minMerge, h.smallLen = mem, -1, 8<<10
		s := openWith(t, "/s", nil, h)
		for range 60 {
			mustAppend(t, s, "big", strings.Repeat("b", 500))
		}
		for range 6 {
			must.Do(t, s.Flush(t.Context()))
			mustAppend(t, s, "small", "small")
		}
		must.Do(t, s.Close())
		s = openWith(t, "/s", &Options{ReadOnly: readOnly}, h)
		end := s.segments.list[0].End
		r, err := s.Open(t.Context(), "small")
		must.Do(t, errors.Join(err, s.Close()))
		h.minMerge = 4
		for i := range 2 { // the second Open would also truncate the file
			s = openWith(t, "/s", nil, h)
			waitMerged(t, s)
			s.segments.discards.Wait()
			if n := s.SegmentCount(); n != 2 {
				t.Fatalf("after open %d and a merge, the store has %d segments, want 2", i, n)
			}
			must.Do(t, s.Close())
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || string(b) != strings.Repeat("small", 6) {
			t.Fatalf("read-only %t: the reader returned %q, %v, want 6 pieces", readOnly, b, err)
		}
		s = openWith(t, "/s", nil, h)
		must.Do(t, s.Close())
		if info, err := mem.Info("/s/seg-00000001"); err != nil || info.Size != end {
			t.Errorf("after the reader was closed, the file has %d bytes, want %d; error %v", info.Size, end, err)
		}
	}
}

// TestMergePowerLoss checks that no data is lost if the power fails before any file system call of a merge.
func TestMergePowerLoss(t *testing.T) {
	mem := vfstest.NewMem()
	want := manySessions(t, mem, 10)
	rnd := rand.New(rand.NewPCG(1, 2))
	h := mergeHooks
	h.minMerge = -1
	var mu sync.Mutex // the merge and the closing of a merged file may call the hook concurrently
	armed, crashes := false, 0
	lossHooks := h
	h.fs = vfstest.Inject(mem, func(op vfstest.Op, _ string) error {
		mu.Lock()
		defer mu.Unlock()
		for i := 0; i < 200 && armed && op.Changes(); i++ {
			crashes++
			lossHooks.fs = mem.Crash(rnd)
			s, err := openHooked("/s", nil, lossHooks)
			if err != nil {
				t.Errorf("opening the store after a power failure: %v", err)
				return nil
			}
			if got, err := contents(s); err != nil || len(got) != len(want) || string(got["k0"]) != string(want["k0"]) {
				t.Errorf("after a power failure, the store has %d keys and %q, want %d and %q; error %v", len(got), got["k0"], len(want), want["k0"], err)
			}
			must.Check(t, s.Close())
		}
		return nil
	})
	s := openWith(t, "/s", nil, h)
	must.Do(t, s.Sync(t.Context()))
	mu.Lock()
	armed = true
	mu.Unlock()
	mergeNow(t, s, 4)
	mu.Lock()
	armed = false
	if crashes == 0 {
		t.Error("the merge made no file system call")
	}
	mu.Unlock()
	must.Do(t, s.Close())
}

// TestPowerLossDuringRecovery checks that synced data is not lost if a process is killed with
// unsynced records, and the power then fails before any file system call of recovery.
func TestPowerLossDuringRecovery(t *testing.T) {
	for _, frozen := range []bool{false, true} {
		mem := vfstest.NewMem()
		h := crashHooksOn(mem)
		s := openWith(t, crashDir, nil, h)
		mustAppend(t, s, "synced", "value")
		must.Do(t, s.Sync(t.Context()))
		for i := 0; i < 100 && (i < 5 || frozen && s.tables.frozen == nil); i++ {
			mustAppend(t, s, "unsynced", "a value that is not synced")
		}
		killed := mem.KillClone()
		must.Do(t, s.Close())
		rnd := rand.New(rand.NewPCG(3, 4))
		lossHooks := crashHooks
		h.fs = vfstest.Inject(killed, func(op vfstest.Op, _ string) error {
			for i := 0; i < 20 && op.Changes(); i++ {
				lossHooks.fs = killed.Crash(rnd)
				s, err := openHooked(crashDir, nil, lossHooks)
				if err != nil {
					t.Errorf("opening the store after a power failure during recovery: %v", err)
					return nil
				}
				wantValue(t, s, "synced", "value")
				must.Check(t, s.Close())
			}
			return nil
		})
		s = openWith(t, crashDir, nil, h)
		must.Do(t, s.Close())
	}
}
