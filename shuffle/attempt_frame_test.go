package shuffle

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

func TestDamagedOrMissingPieces(t *testing.T) {
	newStore := func() *partd.Dict {
		store := partd.NewDict()
		w := mustBegin(t, store, "t", "1")
		mustAppend(t, w, "a", "1", "b", "2")
		mustCommit(t, w)
		return store
	}
	store := newStore()
	must.Do(t, store.Delete(t.Context(), "a"))
	c := mustReadCommitted(t, store)
	if _, err := collectPieces(c.Scan(t.Context())); !errors.Is(err, ErrNotVerified) || !strings.Contains(err.Error(), `task "t"`) {
		t.Errorf("Scan() with a missing key: error = %v, want %v, with the task's name", err, ErrNotVerified)
	}
	for name, value := range map[string]string{
		"text": "hello", "cut": "\x09\x01\x01t", "empty frame": "\x00", "commit elsewhere": string(appendCommit(nil, Commit{Task: "t"})),
		"huge length": "\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "invalid length": strings.Repeat("\xff", 11), "unknown kind": "\x01\x09", "earlier list of tasks": "\x01\x04",
	} {
		store := newStore()
		must.Do(t, store.Append(t.Context(), entries("a", value)...))
		var e *partd.Error
		if _, err := collectPieces(mustReadCommitted(t, store).Scan(t.Context())); !errors.Is(err, errFrame) || !errors.As(err, &e) || e.Key != "a" {
			t.Errorf("%s: error = %v, want %v for key a", name, err, errFrame)
		}
		store = newStore()
		must.Do(t, store.Append(t.Context(), entries(controlKey, value)...))
		if _, err := ReadCommitted(t.Context(), store); !errors.Is(err, errFrame) && name != "commit elsewhere" {
			t.Errorf("%s in the control key: error = %v, want %v", name, err, errFrame)
		}
	}
}

// TestFrameBytes compares the stored bytes with docs/dev/format.md.
func TestFrameBytes(t *testing.T) {
	store := partd.NewDict()
	w := mustBegin(t, store, "t", "a1")
	mustAppend(t, w, "k", "piece", "k", "")
	mustCommit(t, w)
	values := must.Get(store.Get(t.Context(), "k", controlKey))(t)
	for i, want := range []string{
		"0d 01 0174 026131 01 00 7069656365" + "08 01 0174 026131 01 01",
		"19 02 0174 026131 01 02 05" + sumOf("k", "piece", "k", ""),
	} {
		if want = strings.ReplaceAll(want, " ", ""); hex.EncodeToString(values[i]) != want {
			t.Errorf("the stored bytes are %x, want %s", values[i], want)
		}
	}
}

// FuzzFrames reads an arbitrary value in one chunk and in several chunks. It checks that both reads
// yield the same pieces, and that either both fail or neither.
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
			for offset := 0; ; offset += size {
				end := min(offset+size, len(value))
				chunk := partd.Chunk{Key: "k", Offset: int64(offset), Data: value[offset:end], Last: end == len(value)}
				err := r.addChunk(chunk, func(e partd.Entry, _ error) bool { pieces = append(pieces, string(e.Value)); return true })
				if err != nil || chunk.Last {
					return pieces, err != nil
				}
			}
		}
		all, failed := read(len(value) + 1)
		chunked, chunkedFailed := read(1 + absInt(size)%64)
		if !slices.Equal(all, chunked) || failed != chunkedFailed {
			t.Errorf("in one chunk: pieces %q, failed %v; in several chunks: pieces %q, failed %v", all, failed, chunked, chunkedFailed)
		}
		committed := &Committed{index: map[string]int{}}
		var fr frames
		_ = fr.feed(controlKey, value, true, committed.addControl) // must not panic
	})
}

func absInt(n int) int {
	if n < 0 {
		return -(n + 1)
	}
	return n
}

// TestPieceInManyChunks checks that the time for a piece in many chunks is proportional to its length.
func TestPieceInManyChunks(t *testing.T) {
	const size, chunk = 16 << 20, 1 << 10
	data := appendPiece(nil, "t", "a", 1, 0, make([]byte, size))
	var f frames
	start, n := time.Now(), 0
	for len(data) > 0 {
		part := data[:min(chunk, len(data))]
		data = data[len(part):]
		must.Do(t, f.feed("k", part, len(data) == 0, func(_ byte, rest []byte) error { n += len(rest); return nil }))
	}
	if elapsed := time.Since(start); n < size || elapsed > 5*time.Second {
		t.Errorf("read %d bytes in %v, want at least %d bytes in at most 5 s", n, elapsed, size)
	}
}
