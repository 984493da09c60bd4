package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// onSmallDisks runs a test on a small disk of each kind, with and without the option Sync.
func onSmallDisks(t *testing.T, f func(t *testing.T, disk string, opts *Options)) {
	for _, kind := range vfstest.Kinds {
		for _, sync := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/sync=%t", kind, sync), func(t *testing.T) {
				f(t, vfstest.Mount(t, kind, 24<<20), &Options{Memory: MinMemory, Sync: sync})
			})
		}
	}
}

// mustBeFull checks the error of a change that must fail on a full disk.
func mustBeFull(t *testing.T, desc string, err error) {
	t.Helper()
	if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, partd.ErrUnknownOutcome) || errors.Is(err, partd.ErrNeedsReopen) {
		t.Fatalf("%s on a full disk: error %v, want ENOSPC and a known outcome", desc, err)
	}
}

func wantContents(t *testing.T, s *Store, want map[string][]byte) {
	t.Helper()
	got, err := contents(s)
	if err != nil || !maps.EqualFunc(got, want, bytes.Equal) {
		t.Fatalf("Scan yielded wrong contents: %d keys, want %d; error %v", len(got), len(want), err)
	}
	var size int64
	for k, v := range want {
		wantValue(t, s, k, string(v))
		size += int64(len(v))
	}
	st, err := s.Stat(t.Context())
	if err != nil || st.Keys != int64(len(want)) || st.Bytes != size {
		t.Fatalf("Stat counts %d keys, want %d, and %d bytes, want %d; error %v", st.Keys, len(want), st.Bytes, size, err)
	}
	for k, err := range s.Keys(t.Context()) {
		if err != nil || k.Size != int64(len(want[k.Key])) {
			t.Fatalf("Keys yielded size %d for key %q (error %v), want %d", k.Size, k.Key, err, len(want[k.Key]))
		}
	}
}

// TestDiskFullWhileOpen repeatedly fills the disk of an open store. While the disk is full, the
// store must be readable, and reject changes with an error that says for certain that they were not made.
// When there is space, it must accept changes, and contain everything that it acknowledged.
func TestDiskFullWhileOpen(t *testing.T) {
	onSmallDisks(t, func(t *testing.T, disk string, opts *Options) {
		dir := disk + "/store"
		s, err := Open(dir, opts)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string][]byte{}
		add := func(key string, n int) error {
			v := bytes.Repeat([]byte{byte(len(want[key]))}, n)
			err := s.Append(t.Context(), partd.Entry{Key: key, Value: v})
			if err == nil {
				want[key] = append(want[key], v...)
			}
			return err
		}
		for round := range 3 {
			for i := range 50 {
				if err := errors.Join(add(fmt.Sprint(i%7), 1000), add("large", 20_000)); err != nil {
					t.Fatalf("round %d: Append before the disk is full: %v", round, err)
				}
			}
			freeSpace := vfstest.Fill(t, disk)
			wantContents(t, s, want) // only after Fill, because reading flushes the in-memory table
			for i := range 100 {
				if err := add(fmt.Sprint(i%7), 3000); err != nil {
					mustBeFull(t, "Append", err)
				}
			}
			mustBeFull(t, "a large Append", add("large", 1<<20))
			mustBeFull(t, "an Append in bulk", add("large", 40_000_000))
			mustBeFull(t, "Flush", s.Flush(t.Context()))
			wantContents(t, s, want)
			freeSpace()
			if err := errors.Join(add("0", 10), add("large", 100_000), s.Flush(t.Context())); err != nil {
				t.Fatalf("round %d, after freeing space: %v", round, err)
			}
			wantContents(t, s, want)
			if round == 1 {
				freeSpace := vfstest.Fill(t, disk)
				if err := s.Drop(t.Context()); err != nil {
					t.Fatalf("Drop on a full disk: %v", err)
				}
				clear(want)
				wantContents(t, s, want)
				freeSpace()
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = Open(dir, opts); err != nil {
			t.Fatal(err)
		}
		wantContents(t, s, want)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDiskFullUnderBuffer checks that no data acknowledged by a Buffer is lost when the disk of its slow store is full.
func TestDiskFullUnderBuffer(t *testing.T) {
	onSmallDisks(t, func(t *testing.T, disk string, opts *Options) {
		dir := disk + "/store"
		s, err := Open(dir, opts)
		if err != nil {
			t.Fatal(err)
		}
		b, err := partd.NewBuffer(partd.NewDict(), s, &partd.BufferOptions{Memory: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string][]byte{}
		add := func(i int) error {
			k, v := fmt.Sprint(i%50), bytes.Repeat([]byte{byte(i)}, 5000)
			err := b.Append(t.Context(), partd.Entry{Key: k, Value: v})
			if err == nil {
				want[k] = append(want[k], v...)
			}
			return err
		}
		for i := range 100 {
			if err := add(i); err != nil {
				t.Fatal(err)
			}
		}
		freeSpace := vfstest.Fill(t, disk)
		for i := range 1000 {
			if err := add(i); err != nil {
				mustBeFull(t, "Append to the Buffer", err)
			}
			if i%100 == 0 {
				mustBeFull(t, "Flush of the Buffer", b.Flush(t.Context()))
				if _, err := s.Stat(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
		}
		freeSpace()
		for i := range 100 {
			if err := add(i); err != nil {
				t.Fatalf("after freeing space: %v", err)
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = Open(dir, opts); err != nil {
			t.Fatal(err)
		}
		wantContents(t, s, want)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
