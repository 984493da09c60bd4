package logstore

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-partd/partd"
)

// TestRemovedFileIsDetected checks that Open rejects a store without one of its files, and names the file.
func TestRemovedFileIsDetected(t *testing.T) {
	for _, frozen := range []bool{false, true} {
		start, want := killedStore(t, frozen)
		d, err := start.ReadDir(crashDir)
		if err != nil {
			t.Fatal(err)
		}
		names, _ := d.Next(100)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		removed := 0
		for _, n := range names {
			name := n.Name()
			if name == lockName || name == spareName {
				continue
			}
			mem := start.KillClone()
			if err := mem.Remove(crashDir + "/" + name); err != nil {
				t.Fatal(err)
			}
			for _, readOnly := range []bool{true, false} {
				h := crashHooks
				h.fs = mem
				s, err := open(crashDir, &Options{Memory: MinMemory, ReadOnly: readOnly}, h)
				if err == nil {
					_ = s.Close()
				}
				if name == manifestName && readOnly {
					continue // without a manifest, there is no store to read
				}
				var corrupt *partd.CorruptError
				if !errors.As(err, &corrupt) || !strings.HasSuffix(corrupt.Path, name) {
					t.Fatalf("frozen %t, without %s, read-only %t: error %v, want a CorruptError for the file", frozen, name, readOnly, err)
				}
			}
			removed++
		}
		if removed < 2 || frozen && removed < 3 {
			t.Errorf("frozen %t: the store has only %d files to remove, want at least 2, or 3 if frozen", frozen, removed)
		}
		wantContent(t, start, want)
	}
}

// TestNewestFileWithoutHeader checks that a newest write-ahead file without a header is ignored, because
// a power failure may leave one. An empty file must be reported.
func TestNewestFileWithoutHeader(t *testing.T) {
	start, _ := killedStore(t, true)
	for _, size := range []int64{0, crashHooks.walStep} {
		mem := start.KillClone()
		var newest string
		var last uint64
		h := crashHooks
		h.fs = mem
		s, err := open(crashDir, &Options{Memory: MinMemory, ReadOnly: true}, h)
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range s.wal.files {
			if f == nil {
				continue
			}
			if w, err := s.wal.readHeader(f); err == nil && w.epoch > last {
				newest, last = walName(crashDir, i), w.epoch
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := mem.OpenFile(newest, 2, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Truncate(0), f.Truncate(size), f.Close()); err != nil {
			t.Fatal(err)
		}
		s, err = open(crashDir, nil, h)
		if size == 0 {
			var corrupt *partd.CorruptError
			if !errors.As(err, &corrupt) || corrupt.Path != newest {
				t.Fatalf("open with an empty newest file: error %v, want a CorruptError for %s", err, newest)
			}
			continue
		}
		if err != nil {
			t.Fatalf("open with a newest file of %d zeros: %v", size, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
