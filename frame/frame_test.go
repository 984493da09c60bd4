package frame

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/storetest"
)

func join(contents ...string) []byte {
	var b []byte
	for _, c := range contents {
		b = Append(b, []byte(c))
	}
	return b
}

func collect(t *testing.T, data []byte, limit int64) (split, read []string, splitErr, readErr error) {
	t.Helper()
	for c, err := range Split(data) {
		if err != nil {
			splitErr = err
			continue
		}
		split = append(split, string(c))
	}
	for c, err := range Read(iotest.OneByteReader(bytes.NewReader(data)), limit) {
		if err != nil {
			readErr = err
			continue
		}
		read = append(read, string(c))
	}
	return split, read, splitErr, readErr
}

// TestBytes checks that frames have the same bytes as those of Python's partd.utils.frame.
func TestBytes(t *testing.T) {
	if got := hex.EncodeToString(join("Hello", "")); got != "050000000000000048656c6c6f0000000000000000" {
		t.Errorf("the frames of Hello and of an empty content are %s, want Python's bytes", got)
	}
	b := Begin([]byte("x"))
	b = append(b, "Hello"...)
	if got := End(b, 1); !bytes.Equal(got[1:], join("Hello")) {
		t.Errorf("Begin and End produced %x, want the frame of Hello", got)
	}
}

// TestEveryCut checks that frames before a cut are read, and a truncated frame is an error with the frame's offset.
func TestEveryCut(t *testing.T) {
	data := join("Hello", "World!")
	for n := range len(data) {
		split, read, splitErr, readErr := collect(t, data[:n], 0)
		frames, boundary := 0, int64(0)
		if n >= 13 {
			frames, boundary = 1, 13
		}
		if len(split) != frames || len(read) != frames {
			t.Errorf("cut at %d: Split yielded %d frames and Read %d, want %d", n, len(split), len(read), frames)
		}
		for _, err := range []error{splitErr, readErr} {
			var e *Error
			if int64(n) == boundary {
				if err != nil {
					t.Errorf("cut at %d, between frames: error %v, want none", n, err)
				}
			} else if !errors.As(err, &e) || e.Offset != boundary || !errors.Is(err, ErrTruncated) {
				t.Errorf("cut at %d: %v, want a truncated frame at %d", n, err, boundary)
			}
		}
	}
}

func TestFalseLength(t *testing.T) {
	for _, header := range []string{"ffffffffffffffff", "ffffffffffffff7f", "0000000000010000", "0000004000000000"} {
		data, _ := hex.DecodeString(header + "61")
		var splitErr, readErr error
		allocated := procs.Allocated(func() { _, _, splitErr, readErr = collect(t, data, 1<<40) })
		if splitErr == nil || readErr == nil {
			t.Errorf("length %s: Split = %v, Read = %v, want errors", header, splitErr, readErr)
		}
		if allocated > 1<<20 {
			t.Errorf("length %s: Split and Read allocated %d bytes, want at most 1 MiB", header, allocated)
		}
	}
}

func TestLimit(t *testing.T) {
	_, read, _, err := collect(t, join("four", "fives"), 4)
	if len(read) != 1 || !errors.Is(err, ErrTooLong) {
		t.Errorf("Read with the limit 4 yielded %q, %v, want one frame and ErrTooLong", read, err)
	}
}

func TestReaderError(t *testing.T) {
	r := io.MultiReader(bytes.NewReader(join("a")), iotest.ErrReader(io.ErrClosedPipe))
	var lastErr error
	for _, err := range Read(r, 0) {
		lastErr = err
	}
	if !errors.Is(lastErr, io.ErrClosedPipe) {
		t.Errorf("Read ended with %v, want the reader's error", lastErr)
	}
}

// FuzzSplit checks that Split and Read agree on any input, and that joining the frames gives the
// input.
func FuzzSplit(f *testing.F) {
	f.Add(join("Hello", "World"))
	f.Add(join("", "")[:15])
	f.Add(join("", "a", strings.Repeat("long", 100_000), ""))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\x7fabc"))
	f.Fuzz(func(t *testing.T, data []byte) {
		split, read, splitErr, readErr := collect(t, data, 1<<62)
		if !slices.Equal(split, read) || (splitErr == nil) != (readErr == nil) {
			t.Fatalf("Split yielded %d frames and %v, but Read %d frames and %v", len(split), splitErr, len(read), readErr)
		}
		joined := join(split...)
		if !bytes.HasPrefix(data, joined) || splitErr == nil && len(joined) != len(data) {
			t.Fatalf("joining the %d frames gives %d bytes, which differ from the input of %d bytes", len(split), len(joined), len(data))
		}
	})
}

func TestZeroValues(t *testing.T) {
	storetest.CheckZero(t, map[string]any{"Error": new(Error)}, "Unwrap")
	storetest.CheckErrors(t, map[string]func() error{
		"Read(nil)": func() error { return storetest.FirstError(Read(nil, 0)) },
	})
	for content, err := range Split(nil) {
		t.Errorf("Split(nil) yielded %q, %v, want nothing", content, err)
	}
	if b := End(Begin(nil), 0); len(b) != HeaderLen {
		t.Errorf("an empty frame has %d bytes, want %d", len(b), HeaderLen)
	}
}
