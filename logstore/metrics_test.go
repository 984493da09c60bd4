package logstore

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/go-partd/partd"
)

// The metrics must match the operations on the store.
func TestMetrics(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	s, err := Open(dir, &Options{Memory: MinMemory})
	if err != nil {
		t.Fatal(err)
	}
	metrics := func() Metrics {
		t.Helper()
		f, err := s.Metrics()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if f := metrics(); f.Seals+f.Stalls+f.SealFailures+f.UnsealedBytes+f.DeadBytes != 0 || f.Segments != 0 || f.Refusal != nil {
		t.Errorf("new store: %+v", f)
	}
	if err := s.Append(ctx, partd.Entry{Key: "k", Value: make([]byte, 1000)}); err != nil {
		t.Fatal(err)
	}
	if f := metrics(); f.UnsealedBytes < 1000 || f.UnsealedBytes > 1100 || f.UnsealedBytes != s.UnsealedBytes() || f.Seals != 0 {
		t.Errorf("after an append: %+v", f)
	}
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if f := metrics(); f.UnsealedBytes != 0 || f.Seals != 1 || f.Segments != 1 || f.DiskBytes < 1000 || f.MemoryUsed <= 0 {
		t.Errorf("after a flush: %+v", f)
	}
	st, err := s.Stat(ctx)
	if f := metrics(); err != nil || f.DiskBytes != st.Disk {
		t.Errorf("%+v, but Stat returns %+v, %v", f, st, err)
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 400 {
				if err := s.Append(ctx, partd.Entry{Key: fmt.Sprint(w, i%100), Value: make([]byte, 10_000)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if f := metrics(); f.Stalls == 0 || f.StallTime <= 0 || f.Seals < 5 {
		t.Errorf("after 16 MB in 4 MiB of memory: %+v", f)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Metrics(); !errors.Is(err, partd.ErrClosed) {
		t.Errorf("closed store: %v", err)
	}
	if s, err = Open(dir, &Options{ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if f := metrics(); !errors.Is(f.Refusal, ErrReadOnly) {
		t.Errorf("store opened for reading: %+v", f)
	}
}
