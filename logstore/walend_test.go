package logstore

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-partd/partd"
)

// A store must be refused if any one file is missing, with the name of the file. When the
// file is restored, the store must be intact.
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
					continue // without it, there is no store
				}
				var corrupt *partd.CorruptError
				if !errors.As(err, &corrupt) || !strings.HasSuffix(corrupt.Path, name) {
					t.Fatalf("frozen %t, without %s, read-only %t: %v", frozen, name, readOnly, err)
				}
			}
			removed++
		}
		if removed < 2 || frozen && removed < 3 {
			t.Errorf("removed only %d files", removed)
		}
		wantContent(t, start, want)
	}
}

// A newest file without a header does not count, because a power loss may leave one. An
// emptied file must be reported as missing.
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
				t.Fatalf("emptied: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
