package compress

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
)

// countingDict is a Dict that counts its appends and pops.
type countingDict struct {
	*partd.Dict
	changes int
	damage  func() // called before the keys are popped, unless nil
}

func (c *countingDict) Append(ctx context.Context, entries ...partd.Entry) error {
	c.changes++
	return c.Dict.Append(ctx, entries...)
}

func (c *countingDict) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	c.changes++
	if c.damage != nil {
		c.damage()
	}
	return c.Dict.Pop(ctx, keys...)
}

// TestDamagedPop checks that Pop finds damage before it removes anything. If it removed
// the values first and appended them again, a key with an empty value would be lost, and
// so would the rest after a kill or on a full disk.
func TestDamagedPop(t *testing.T) {
	dict := &countingDict{Dict: partd.NewDict()}
	s := newStore(t, dict, Snappy, nil)
	good := frame.Append(nil, pack(t, Snappy, []byte("good")))
	set := func(key string, value []byte) {
		t.Helper()
		if err := dict.Set(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	set("good", good)
	set("bad", []byte("rubbish"))
	set("empty", nil)
	check := func(bad string) {
		t.Helper()
		v, err := dict.Get(t.Context(), "good", "bad")
		if err != nil || !bytes.Equal(v[0], good) || string(v[1]) != bad {
			t.Errorf("after Pop: %q, %v", v, err)
		}
	}
	if v, err := s.Pop(t.Context(), "good", "empty", "bad", "good"); v != nil || !errors.As(err, new(*partd.CorruptError)) {
		t.Errorf("%q, %v", v, err)
	}
	check("rubbish")
	if st, err := dict.Stat(t.Context()); err != nil || st.Keys != 3 || dict.changes > 0 {
		t.Errorf("%+v, %v, %d changes", st, err, dict.changes)
	}
	// A value that is damaged between Get and Pop is put back.
	set("bad", good)
	dict.damage = func() { set("bad", []byte("more rubbish")) }
	if v, err := s.Pop(t.Context(), "good", "bad", "good"); v != nil || !errors.As(err, new(*partd.CorruptError)) {
		t.Errorf("%q, %v", v, err)
	}
	check("more rubbish")
	// A piece that is appended between Get and Pop is popped as well.
	set("bad", good)
	dict.damage = func() { set("bad", append(good, good...)) }
	if v, err := s.Pop(t.Context(), "good", "bad"); err != nil || string(v[0]) != "good" || string(v[1]) != "goodgood" {
		t.Errorf("%q, %v", v, err)
	}
}

// failing is a store whose readers and scans fail in the middle.
type failing struct{ *partd.Dict }

var errMiddle = errors.New("the disk is gone")

func (f failing) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	v, err := f.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(io.MultiReader(bytes.NewReader(v[0][:len(v[0])/2]), failingReader{})), nil
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errMiddle }

// TestErrorsOfTheStoreBeneath checks that errors of the underlying store are not reported as
// damage.
func TestErrorsOfTheStoreBeneath(t *testing.T) {
	for _, format := range Formats() {
		s := newStore(t, failing{partd.NewDict()}, format, nil)
		n := 1 << 20
		if format == BZ2 {
			n = 100_000
		}
		if err := s.Append(t.Context(), partd.Entry{Key: "k", Value: randomText(n)}); err != nil {
			t.Fatal(err)
		}
		r, err := s.Open(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(r)
		if !errors.Is(err, errMiddle) || errors.As(err, new(*partd.CorruptError)) {
			t.Errorf("%s: %v", format, err)
		}
		if _, repeated := r.Read(make([]byte, 1)); repeated == nil || repeated == io.EOF {
			t.Errorf("%s: after the error: %v", format, repeated)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, partd.ErrClosed) {
			t.Errorf("%s: a closed reader: %v", format, err)
		}
	}
}
