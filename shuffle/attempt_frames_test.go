package shuffle

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
)

func TestDamagedOrMissingPieces(t *testing.T) {
	fill := func() *partd.Dict {
		store := partd.NewDict()
		w := begin(t, store, "t", "1")
		write(t, w, "a", "1", "b", "2")
		commit(t, w)
		return store
	}
	store := fill()
	if err := store.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	c := committed(t, store)
	if _, err := gather(c.Scan(t.Context())); !errors.Is(err, ErrNotVerified) || !strings.Contains(err.Error(), `task "t"`) {
		t.Errorf("a missing key is not noticed: %v", err)
	}
	c.disabled.totals = true
	if got, err := gather(c.Scan(t.Context())); err != nil || len(got) != 1 {
		t.Errorf("without the check of totals: %v, %v", got, err)
	}
	for name, value := range map[string]string{
		"text": "hello", "cut": "\x09\x01\x01t", "empty frame": "\x00", "commit elsewhere": string(appendCommit(nil, Commit{Task: "t"})),
		"long": "\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "no number": strings.Repeat("\xff", 11), "kind": "\x01\x09",
	} {
		store := fill()
		if err := store.Append(t.Context(), entries("a", value)...); err != nil {
			t.Fatal(err)
		}
		var e *partd.Error
		if _, err := gather(committed(t, store).Scan(t.Context())); !errors.Is(err, errFrame) || !errors.As(err, &e) || e.Key != "a" {
			t.Errorf("%s: %v", name, err)
		}
		store = fill()
		if err := store.Append(t.Context(), entries(ControlKey, value)...); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadCommitted(t.Context(), store); !errors.Is(err, errFrame) && name != "commit elsewhere" {
			t.Errorf("%s in the control key: %v", name, err)
		}
	}
}

// The bytes must be those in docs/format.md.
func TestFrameBytes(t *testing.T) {
	store := partd.NewDict()
	if err := AddTasks(t.Context(), store, "t", "uu"); err != nil {
		t.Fatal(err)
	}
	if err := CloseTasks(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	w := begin(t, store, "t", "a1")
	write(t, w, "k", "piece", "k", "")
	commit(t, w)
	values, err := store.Get(t.Context(), "k", ControlKey)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		"0d 01 0174 026131 01 00 7069656365" + "08 01 0174 026131 01 01",
		"06 03 0174 027575" + "01 04" + "19 02 0174 026131 01 02 05" + sumOf("k", "piece", "k", ""),
	} {
		if want = strings.ReplaceAll(want, " ", ""); hex.EncodeToString(values[i]) != want {
			t.Errorf("%x, want %s", values[i], want)
		}
	}
}

// Whatever a value contains, and however it is divided into chunks, reading it must yield
// pieces or return an error.
func FuzzFrames(f *testing.F) {
	store := partd.NewDict()
	c := Commit{Task: "t", Attempt: "a", Batches: 2}
	good := appendPiece(appendPiece(nil, "t", "a", 1, 0, []byte("piece")), "t", "a", 2, 0, nil)
	f.Add(good, 3)
	f.Add(appendCommit(good, c), 100)
	f.Add([]byte("\xff\xff\xff\xff\x07\x01"), 1)
	f.Fuzz(func(t *testing.T, value []byte, size int) {
		read := func(size int) (pieces []string, failed bool) {
			r := (&Committed{store: store, winners: []Commit{c}, index: map[string]int{"t": 0}}).newScanPass(1)
			for at := 0; ; at += size {
				end := min(at+size, len(value))
				chunk := partd.Chunk{Key: "k", Offset: int64(at), Data: value[at:end], Last: end == len(value)}
				err := r.chunk(chunk, func(e partd.Entry, _ error) bool { pieces = append(pieces, string(e.Value)); return true })
				if err != nil || chunk.Last {
					return pieces, err != nil
				}
			}
		}
		all, failed := read(len(value) + 1)
		chunked, failedToo := read(1 + absInt(size)%64)
		if !slices.Equal(all, chunked) || failed != failedToo {
			t.Errorf("%q %v in one chunk, %q %v in many", all, failed, chunked, failedToo)
		}
		control := &control{index: map[string]int{}, listed: map[string]bool{}}
		var fr frames
		_ = fr.feed(ControlKey, value, true, control.addFrame) // must not panic
	})
}

func absInt(n int) int {
	if n < 0 {
		return -(n + 1)
	}
	return n
}

// A piece in very many chunks must take time in proportion to its length.
func TestPieceInManyChunks(t *testing.T) {
	const size, chunk = 16 << 20, 1 << 10
	data := appendPiece(nil, "t", "a", 1, 0, make([]byte, size))
	var f frames
	start, n := time.Now(), 0
	for len(data) > 0 {
		now := data[:min(chunk, len(data))]
		data = data[len(now):]
		if err := f.feed("k", now, len(data) == 0, func(_ byte, rest []byte) error { n += len(rest); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if elapsed := time.Since(start); n < size || elapsed > 5*time.Second {
		t.Errorf("%d bytes in %v", n, elapsed)
	}
}
