package frame

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/iotest"
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

// TestBytes compares frames with the frames of Python's partd.utils.frame.
func TestBytes(t *testing.T) {
	if got := hex.EncodeToString(join("Hello", "")); got != "050000000000000048656c6c6f0000000000000000" {
		t.Errorf("frames of Hello and of nothing: %s", got)
	}
	b := Begin([]byte("x"))
	b = append(b, "Hello"...)
	if got := End(b, 1); !bytes.Equal(got[1:], join("Hello")) {
		t.Errorf("Begin and End made %x", got)
	}
}

func TestRoundTrip(t *testing.T) {
	want := []string{"", "a", string(bytes.Repeat([]byte("long"), 100_000)), ""}
	split, read, err1, err2 := collect(t, join(want...), 0)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	for i := range want {
		if split[i] != want[i] || read[i] != want[i] {
			t.Fatalf("frame %d differs", i)
		}
	}
	if len(split) != len(want) || len(read) != len(want) {
		t.Fatalf("%d and %d frames, want %d", len(split), len(read), len(want))
	}
}

// TestEveryCut truncates two frames at each byte. Whole frames before the cut are read,
// and the rest is an error with its offset.
func TestEveryCut(t *testing.T) {
	data := join("Hello", "World!")
	for n := range len(data) {
		split, read, err1, err2 := collect(t, data[:n], 0)
		frames, boundary := 0, int64(0)
		if n >= 13 {
			frames, boundary = 1, 13
		}
		if len(split) != frames || len(read) != frames {
			t.Errorf("cut at %d: %d and %d frames, want %d", n, len(split), len(read), frames)
		}
		for _, err := range []error{err1, err2} {
			var e *Error
			if int64(n) == boundary {
				if err != nil {
					t.Errorf("cut at %d, between frames: %v", n, err)
				}
			} else if !errors.As(err, &e) || e.Offset != boundary || !errors.Is(err, ErrTruncated) {
				t.Errorf("cut at %d: %v, want a truncated frame at %d", n, err, boundary)
			}
		}
	}
}

func TestLyingLength(t *testing.T) {
	for _, header := range []string{"ffffffffffffffff", "ffffffffffffff7f", "0000000000010000", "0000004000000000"} {
		data, _ := hex.DecodeString(header + "61")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err1, err2 := collect(t, data, 1<<40)
		runtime.ReadMemStats(&after)
		if err1 == nil || err2 == nil {
			t.Errorf("a length of %s is taken: %v, %v", header, err1, err2)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("a length of %s took %d bytes of memory", header, n)
		}
	}
}

func TestLimit(t *testing.T) {
	_, read, _, err := collect(t, join("four", "fives"), 4)
	if len(read) != 1 || !errors.Is(err, ErrTooLong) {
		t.Errorf("limit 4: %q, %v", read, err)
	}
}

func TestReaderError(t *testing.T) {
	r := io.MultiReader(bytes.NewReader(join("a")), iotest.ErrReader(io.ErrClosedPipe))
	var got error
	for _, err := range Read(r, 0) {
		got = err
	}
	if !errors.Is(got, io.ErrClosedPipe) {
		t.Errorf("the reader's error is lost: %v", got)
	}
}

// FuzzSplit checks that Split and Read agree on any input, and that the frames they accept
// make the same bytes when joined again.
func FuzzSplit(f *testing.F) {
	f.Add(join("Hello", "World"))
	f.Add(join("", "")[:15])
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\x7fabc"))
	f.Fuzz(func(t *testing.T, data []byte) {
		split, read, err1, err2 := collect(t, data, 1<<62)
		if len(split) != len(read) || (err1 == nil) != (err2 == nil) {
			t.Fatalf("Split: %d frames, %v; Read: %d frames, %v", len(split), err1, len(read), err2)
		}
		joined := join(split...)
		if !bytes.HasPrefix(data, joined) || err1 == nil && len(joined) != len(data) {
			t.Fatalf("%d frames give %d bytes, the input has %d", len(split), len(joined), len(data))
		}
	})
}
