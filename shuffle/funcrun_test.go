package shuffle

import (
	"bytes"
	"errors"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/tempdir"
	"github.com/go-partd/partd/internal/vfs"
)

// readRun writes a run and reads it back.
func readRun(t *testing.T, fsys vfs.FS) (n int, err error) {
	t.Helper()
	temp, err := tempdir.New([]string{t.TempDir()}, &tempdir.Options{FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	r, err := newFuncRun(temp)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(r.close(), temp.Close()); err != nil {
			t.Error(err)
		}
	}()
	codec, err := DefaultSpillCodec[[]byte]()
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("record"), 5000)
	encoded, err := codec.Encode(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := r.add(encoded); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.flush(); err != nil {
		t.Fatal(err)
	}
	for c := (&funcCursor[[]byte]{codec: codec, run: r}); ; n++ {
		if more, err := c.next(); err != nil || !more {
			return n, err
		}
		if !bytes.Equal(c.v, want) {
			t.Errorf("record %d is another", n)
		}
	}
}

// A bit of a run that comes back wrong from the disk is an error.
func TestFuncRunBitRot(t *testing.T) {
	fsys := &vfs.Flip{}
	if n, err := readRun(t, fsys); err != nil || n != 10 {
		t.Fatal(n, err)
	}
	for at := 1; at <= fsys.Reads; at++ {
		var corrupt *partd.CorruptError
		if _, err := readRun(t, &vfs.Flip{At: at}); !errors.As(err, &corrupt) {
			t.Errorf("read %d of %d: %v", at, fsys.Reads, err)
		}
	}
}
