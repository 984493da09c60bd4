package logstore

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/go-partd/partd"
)

// What is told of a store is what was done with it.
func TestFigures(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	s, err := Open(dir, &Options{Memory: MinMemory})
	if err != nil {
		t.Fatal(err)
	}
	figures := func() Figures {
		t.Helper()
		f, err := s.Figures()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if f := figures(); f.Seals+f.Stalls+f.SealFails+f.Unsealed+f.Dead != 0 || f.Segments != 0 || f.Refusal != nil {
		t.Errorf("of a new store: %+v", f)
	}
	if err := s.Append(ctx, partd.Entry{Key: "k", Value: make([]byte, 1000)}); err != nil {
		t.Fatal(err)
	}
	if f := figures(); f.Unsealed < 1000 || f.Unsealed > 1100 || f.Unsealed != s.Unsealed() || f.Seals != 0 {
		t.Errorf("after an append: %+v", f)
	}
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if f := figures(); f.Unsealed != 0 || f.Seals != 1 || f.Segments != 1 || f.Disk < 1000 || f.Memory <= 0 {
		t.Errorf("after a flush: %+v", f)
	}
	st, err := s.Stat(ctx)
	if f := figures(); err != nil || f.Disk != st.Disk {
		t.Errorf("%+v, and Stat says %+v, %v", f, st, err)
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
	if f := figures(); f.Stalls == 0 || f.Stalled <= 0 || f.Seals < 5 {
		t.Errorf("after 16 MB in 4 MiB of memory: %+v", f)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Figures(); !errors.Is(err, partd.ErrClosed) {
		t.Errorf("of a closed store: %v", err)
	}
	if s, err = Open(dir, &Options{ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if f := figures(); !errors.Is(f.Refusal, ErrReadOnly) {
		t.Errorf("of a store opened for reading: %+v", f)
	}
}
