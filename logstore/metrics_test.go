package logstore

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/go-partd/partd"
)

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
		t.Errorf("metrics of a new store: %+v, want zero", f)
	}
	if err := s.Append(ctx, partd.Entry{Key: "k", Value: make([]byte, 1000)}); err != nil {
		t.Fatal(err)
	}
	if f := metrics(); f.UnsealedBytes < 1000 || f.UnsealedBytes > 1100 || f.UnsealedBytes != s.UnsealedBytes() || f.Seals != 0 {
		t.Errorf("metrics after an append of 1000 bytes: %+v, want 1000 to 1100 unsealed bytes and no seals", f)
	}
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if f := metrics(); f.UnsealedBytes != 0 || f.Seals != 1 || f.Segments != 1 || f.DiskBytes < 1000 || f.MemoryUsed <= 0 {
		t.Errorf("metrics after a flush: %+v, want one segment", f)
	}
	st, err := s.Stat(ctx)
	if f := metrics(); err != nil || f.DiskBytes != st.Disk {
		t.Errorf("Metrics() = %+v, but Stat() = %+v, %v, want the same size on disk", f, st, err)
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
		t.Errorf("metrics after appends of 16 MB with 4 MiB of memory: %+v, want stalls and seals", f)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Metrics(); !errors.Is(err, partd.ErrClosed) {
		t.Errorf("Metrics of a closed store: error %v, want ErrClosed", err)
	}
	if s, err = Open(dir, &Options{ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if f := metrics(); !errors.Is(f.Refusal, ErrReadOnly) {
		t.Errorf("metrics of a read-only store: %+v, want ErrReadOnly as Refusal", f)
	}
}
