package logstore

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestMergeWithReaders checks that readers see the content as it was when they started, even in
// files that merges have removed, and that these files are closed when the readers end.
func TestMergeWithReaders(t *testing.T) {
	var openFiles atomic.Int64
	mem := vfstest.NewMem()
	countCloses := vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		if strings.Contains(name, "seg-") && op == vfstest.OpClose {
			openFiles.Add(-1)
		}
		return nil
	})
	fs := countOpens{countCloses, &openFiles}
	want := manySessions(t, mem, 40)
	h := mergeHooks
	h.fs = fs
	h.minMerge = -1
	s := openWith(t, "/s", nil, h)
	r := must.Get(s.Open(t.Context(), "k1"))(t)
	for round := range 3 {
		seen := 0
		for c, err := range s.Scan(t.Context()) {
			if err != nil || !bytes.Equal(c.Data, want[c.Key]) {
				t.Fatalf("Scan yielded for key %s %d bytes that differ from the %d bytes written; error %v", c.Key, len(c.Data), len(want[c.Key]), err)
			}
			if seen++; seen > 1 {
				continue
			}
			mergeNow(t, s, 2)
			if s.SegmentCount() > 1+round {
				t.Fatalf("round %d: the store has %d segments after a merge, want at most %d", round, s.SegmentCount(), 1+round)
			}
		}
		for k, v := range want {
			want[k] = append(v, "more"...)
			mustAppend(t, s, k, "more")
		}
		must.Do(t, s.Flush(t.Context()))
		waitMerged(t, s)
	}
	b, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil || string(b)+strings.Repeat("more", 3) != string(want["k1"]) {
		t.Fatalf("the reader returned %d bytes, %v, want the old value", len(b), err)
	}
	s.segments.discards.Wait()
	if n := openFiles.Load(); n > 2 {
		t.Errorf("%d segment files are open after all readers ended, want at most 2", n)
	}
	wantMerged(t, s, want)
	if err := s.Close(); err != nil || openFiles.Load() != 0 {
		t.Errorf("Close: %v; %d segment files are still open", err, openFiles.Load())
	}
}

// countOpens counts opened segment files in n.
type countOpens struct {
	vfs.FS
	n *atomic.Int64
}

func (c countOpens) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := c.FS.OpenFile(name, flag, perm)
	if err == nil && strings.Contains(name, "seg-") {
		c.n.Add(1)
	}
	return f, err
}

// TestMergeDropped checks that Drop does not wait for a running merge, and that Close does not wait long for one.
func TestMergeDropped(t *testing.T) {
	mem := vfstest.NewMem()
	want := manySessions(t, mem, 10)
	for _, end := range []string{"drop", "close"} {
		proceed, blocked := make(chan struct{}), make(chan struct{})
		var once sync.Once
		h := mergeHooks
		h.fs = vfstest.Inject(mem, func(op vfstest.Op, name string) error {
			if op == vfstest.OpSync && strings.Contains(name, "seg-") {
				once.Do(func() { close(blocked); <-proceed })
			}
			return nil
		})
		s := openWith(t, "/s", nil, h)
		<-blocked // the new segment is complete, but not yet committed
		if end == "drop" {
			must.Do(t, s.Drop(t.Context()))
			clear(want)
			want["k"] = []byte("v")
			mustAppend(t, s, "k", "v")
		} else {
			s.mu.Lock()
			s.merging.bytes = maxCloseMerge + 1
			s.mu.Unlock()
		}
		time.AfterFunc(20*time.Millisecond, func() { close(proceed) })
		must.Do(t, s.Close())
		wantSegments := 10
		if end == "drop" {
			wantSegments = 1
		}
		h.fs, h.minMerge = mem, -1
		s = openWith(t, "/s", nil, h)
		if s.SegmentCount() != wantSegments {
			t.Errorf("after %s: the store has %d segments, want %d", end, s.SegmentCount(), wantSegments)
		}
		wantMerged(t, s, want)
		must.Do(t, s.Close())
		if end == "drop" {
			return
		}
		want = manySessions(t, mem, 0)
	}
}

// TestMergeFullDisk checks that a merge without enough space fails with a log message and is not
// retried immediately. It must not lose data or leave files.
func TestMergeFullDisk(t *testing.T) {
	for call := int64(1); ; call++ {
		mem := vfstest.NewMem()
		want := manySessions(t, mem, 12)
		var logBuf bytes.Buffer
		fault := &vfstest.Fault{Call: call, Err: syscall.ENOSPC, Persists: true, ShortWrite: call%2 == 0}
		var merging atomic.Bool
		fault.Match = func(op vfstest.Op, name string) bool {
			return merging.Load() && (op == vfstest.OpWrite || op == vfstest.OpOpen || op == vfstest.OpTruncate || op == vfstest.OpSync) &&
				!strings.Contains(name, "wal-")
		}
		h := mergeHooks
		h.fs, h.minMerge = vfstest.Inject(mem, fault.Check), -1
		s := openWith(t, "/s", &Options{Logger: slog.New(slog.NewTextHandler(&logBuf, nil))}, h)
		merging.Store(true)
		mergeNow(t, s, 4)
		wantMerged(t, s, want)
		mustAppend(t, s, "k0", "more")
		want["k0"] = append(want["k0"], "more"...)
		merging.Store(false)
		if s.checkPoisoned() != nil { // the outcome of replacing the manifest is unknown
			_ = s.Close()
		} else if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if fault.Hit() && !strings.Contains(logBuf.String(), "merging segments failed") {
			t.Errorf("fault in call %d: the log contains %q, want a message about the failed merge", call, logBuf.String())
		}
		h.fs, h.minMerge = mem, -1
		s = openWith(t, "/s", nil, h)
		wantMerged(t, s, want)
		names, err := s.listStoreFiles()
		if err != nil || len(names) > len(s.catalog.files.files())+1 {
			t.Errorf("fault in call %d: the reopened store has leftover files: %q, error %v", call, names, err)
		}
		must.Do(t, s.Close())
		if !fault.Hit() {
			if call < 5 {
				t.Errorf("only %d calls were tried, want at least 5", call)
			}
			return
		}
	}
}

// TestMergeCutsFile checks that merged segments at the end of a file are truncated, either
// immediately or, if that fails, by the next Open.
func TestMergeCutsFile(t *testing.T) {
	mem := vfstest.NewMem()
	h := mergeHooks
	h.fs, h.minMerge, h.smallLen = mem, -1, 8<<10
	s := openWith(t, "/s", nil, h)
	want := map[string][]byte{}
	for range 60 {
		mustAppend(t, s, "big", strings.Repeat("b", 500))
		want["big"] = append(want["big"], strings.Repeat("b", 500)...)
	}
	for range 6 {
		must.Do(t, s.Flush(t.Context()))
		mustAppend(t, s, "small", "small")
		want["small"] = append(want["small"], "small"...)
	}
	first := s.segments.list[0].End
	must.Do(t, s.Close())
	h.minMerge = 4
	killed := mem.KillClone()
	for i, fs := range []vfs.FS{mem, vfstest.Inject(killed, func(op vfstest.Op, name string) error {
		if op == vfstest.OpTruncate && strings.Contains(name, "seg-") {
			return syscall.EIO
		}
		return nil
	}), killed} {
		h.fs = fs
		s = openWith(t, "/s", nil, h)
		waitMerged(t, s)
		s.segments.discards.Wait()
		if s.SegmentCount() != 2 {
			t.Errorf("case %d: the store has %d segments after the merge, want 2", i, s.SegmentCount())
		}
		wantMerged(t, s, want)
		must.Do(t, s.Close())
		info, err := fs.Info("/s/seg-00000001")
		if err != nil || (info.Size == first) != (i != 1) {
			t.Errorf("case %d: the file has %d bytes, want %d only if it could be truncated; error %v", i, info.Size, first, err)
		}
	}
}

// TestMergeChecksLedger checks that a merge fails, but not the store, if a block is damaged, or if the data that the
// merge wrote does not match the ledgers of its inputs.
func TestMergeChecksLedger(t *testing.T) {
	for _, want := range []string{"checksum", "ledger"} {
		mem := vfstest.NewMem()
		manySessions(t, mem, 12)
		h := mergeHooks
		h.fs, h.minMerge = mem, -1
		var logBuf bytes.Buffer
		s := openWith(t, "/s", &Options{Logger: slog.New(slog.NewTextHandler(&logBuf, nil))}, h)
		if want == "ledger" {
			s.segments.list[0].ledger.Pieces++
		} else {
			changeByte(t, mem, "/s/seg-00000001", 60, func(b byte) byte { return b ^ 1 })
		}
		mergeNow(t, s, 4)
		if s.SegmentCount() != 12 || !strings.Contains(logBuf.String(), want) {
			t.Errorf("the store has %d segments, want 12; the log, which must mention the %s, is: %s", s.SegmentCount(), want, logBuf.String())
		}
		mustAppend(t, s, "k", "v")
		if _, err := s.verify(t.Context()); !errors.As(err, new(*partd.CorruptError)) {
			t.Errorf("Verify finds no wrong %s: error %v, want a CorruptError", want, err)
		}
		must.Do(t, s.Close())
	}
}
