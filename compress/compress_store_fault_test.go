package compress

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/testutil/must"
)

// countingDict is a Dict that counts its appends and pops.
type countingDict struct {
	*partd.Dict
	changes int
	damage  func() // if not nil, Pop calls it before it removes the keys
	cancel  func() // if not nil, Pop calls it after it removed the keys
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
	if c.cancel != nil {
		defer c.cancel()
	}
	return c.Dict.Pop(ctx, keys...)
}

// TestDamagedPop checks that Pop detects damage before it removes anything. If it removed the values
// first and appended them again after an error, a key with an empty value would be lost. On a full
// disk, or if the process were killed, all values would be lost.
func TestDamagedPop(t *testing.T) {
	dict := &countingDict{Dict: partd.NewDict()}
	s := newStore(t, dict, Snappy, nil)
	good := frame.Append(nil, pack(t, Snappy, []byte("good")))
	set := func(key string, value []byte) {
		t.Helper()
		must.Do(t, dict.Set(t.Context(), key, value))
	}
	set("good", good)
	set("bad", []byte("rubbish"))
	set("empty", nil)
	check := func(bad string) {
		t.Helper()
		v, err := dict.Get(t.Context(), "good", "bad")
		if err != nil || !bytes.Equal(v[0], good) || string(v[1]) != bad {
			t.Errorf("after Pop, the store has %q, %v, want the original values", v, err)
		}
	}
	if v, err := s.Pop(t.Context(), "good", "empty", "bad", "good"); v != nil || !errors.As(err, new(*partd.CorruptError)) {
		t.Errorf("Pop with a damaged value = %q, %v, want a CorruptError", v, err)
	}
	check("rubbish")
	if st, err := dict.Stat(t.Context()); err != nil || st.Keys != 3 || dict.changes > 0 {
		t.Errorf("after Pop, Stat = %+v, %v, and there were %d changes, want 3 keys and no change", st, err, dict.changes)
	}
	// If a value is damaged after Pop has checked it, Pop appends the popped values again.
	set("bad", good)
	dict.damage = func() { set("bad", []byte("more rubbish")) }
	if v, err := s.Pop(t.Context(), "good", "bad", "good"); v != nil || !errors.As(err, new(*partd.CorruptError)) {
		t.Errorf("Pop of a value that was damaged after its check = %q, %v, want a CorruptError", v, err)
	}
	check("more rubbish")
	// A piece that is appended after Pop has checked the value is also popped.
	set("bad", good)
	dict.damage = func() { set("bad", append(good, good...)) }
	if v, err := s.Pop(t.Context(), "good", "bad"); err != nil || string(v[0]) != "good" || string(v[1]) != "goodgood" {
		t.Errorf("Pop of a value that grew after its check = %q, %v, want good and goodgood", v, err)
	}
}

// failing is a store whose readers fail in the middle of a value.
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

// TestErrorsOfUnderlyingStore checks that errors of the underlying store are not reported as damage.
func TestErrorsOfUnderlyingStore(t *testing.T) {
	for _, format := range Formats() {
		s := newStore(t, failing{partd.NewDict()}, format, nil)
		n := 1 << 20
		if format == BZ2 {
			n = 100_000
		}
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: randomText(n)}))
		r, err := s.Open(t.Context(), "k")
		must.Do(t, err)
		_, err = io.ReadAll(r)
		if !errors.Is(err, errMiddle) || errors.As(err, new(*partd.CorruptError)) {
			t.Errorf("%s: reading = %v, want only the store's error", format, err)
		}
		if _, nextErr := r.Read(make([]byte, 1)); nextErr == nil || nextErr == io.EOF {
			t.Errorf("%s: Read after the error = %v, want the error again", format, nextErr)
		}
		must.Do(t, r.Close())
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, partd.ErrClosed) {
			t.Errorf("%s: Read after Close = %v, want ErrClosed", format, err)
		}
	}
}

// TestCauseOfCancellation checks that operations report the cause of a canceled context, even an
// operation with one value, for which the layer starts no goroutine.
func TestCauseOfCancellation(t *testing.T) {
	s := newStore(t, partd.NewDict(), Zstd, nil)
	must.Do(t, s.Append(t.Context(), partd.Entry{Key: "a", Value: []byte("1")}))
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("canceled by the test")
	cancel(cause)
	err := s.Append(ctx, partd.Entry{Key: "a", Value: []byte("2")})
	if !errors.Is(err, cause) || !errors.Is(err, context.Canceled) {
		t.Errorf("Append = %v, want context.Canceled and the cause", err)
	}
	if _, err = s.Get(ctx, "a"); err != nil && (!errors.Is(err, cause) || !errors.Is(err, context.Canceled)) {
		t.Errorf("Get = %v, want context.Canceled and the cause, or success", err)
	}
}

// TestCanceledDamagedPop checks that a canceled Pop, too, appends a damaged value again.
func TestCanceledDamagedPop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	dict := &countingDict{Dict: partd.NewDict(), cancel: cancel}
	dict.damage = func() { must.Do(t, dict.Set(ctx, "k", []byte("rubbish"))) }
	s := newStore(t, dict, Snappy, nil)
	must.Do(t, s.Append(ctx, partd.Entry{Key: "k", Value: []byte("good")}))
	if v, err := s.Pop(ctx, "k"); !errors.As(err, new(*partd.CorruptError)) {
		t.Errorf("Pop of a damaged value = %q, %v, want a CorruptError", v, err)
	}
	if v, err := dict.Get(t.Context(), "k"); err != nil || string(v[0]) != "rubbish" {
		t.Errorf("after a canceled Pop, the store has %q, %v, want the damaged value", v, err)
	}
}
