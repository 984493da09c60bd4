package group

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// spoolTwice writes two texts to a spool in turn, and reports whether it reads them back unchanged.
func spoolTwice(t *testing.T, fsys vfs.FS) (equal bool, err error) {
	t.Helper()
	temp, err := tempdir.New([]string{t.TempDir()}, fsys)
	if err != nil {
		t.Fatal(err)
	}
	s := &spool{temp: temp, limit: 1000}
	defer func() {
		if err := errors.Join(s.close(), temp.Close()); err != nil {
			t.Error(err)
		}
	}()
	equal = true
	for _, n := range []int{5000, 300} {
		var want, got []byte
		for i := range n {
			word := fmt.Appendf(nil, "%d;", i*i)
			want = append(want, word...)
			s.buf = append(s.buf, word...)
			if err := s.moveToDisk(); err != nil {
				t.Fatal(err)
			}
		}
		err := s.pieces(func(p []byte) error {
			if len(p) == 0 {
				t.Error("pieces passed an empty piece")
			}
			got = append(got, p...)
			return nil
		})
		if err != nil {
			return false, err
		}
		equal = equal && bytes.Equal(got, want)
		s.reset()
	}
	return equal, nil
}

// TestSpoolBitRot checks that a flipped bit in a spilled list causes an error.
func TestSpoolBitRot(t *testing.T) {
	fsys := &vfstest.Flip{}
	if equal, err := spoolTwice(t, fsys); err != nil || !equal {
		t.Fatalf("without a flipped bit: text unchanged: %v, error: %v", equal, err)
	}
	if fsys.Calls < 30 {
		t.Fatalf("the spool made only %d reads, want at least 30", fsys.Calls)
	}
	for read := 1; read <= fsys.Calls; read++ {
		var corrupt *partd.CorruptError
		if equal, err := spoolTwice(t, &vfstest.Flip{Target: read}); !errors.As(err, &corrupt) {
			t.Errorf("with a flipped bit in read %d of %d: got %v (text unchanged: %v), want a CorruptError", read, fsys.Calls, err, equal)
		}
	}
}
