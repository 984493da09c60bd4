package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/vfs/vfstest"
)

func TestSessions(t *testing.T) {
	dir := t.TempDir()
	ctx := t.Context()
	s := mustOpen(t, dir, &Options{MaxSessions: 2})
	a, err := s.NewSession(ctx)
	if err != nil {
		t.Fatal(err)
	}
	piece := partd.Operation{Change: partd.ChangeAppend, Entries: []partd.Entry{{Key: "k", Value: []byte("x")}}}
	try := func(s *Store, tag partd.Tag, op partd.Operation, applied bool, want error) {
		t.Helper()
		got, err := s.Apply(ctx, tag, op)
		if got != applied || !errors.Is(err, want) {
			t.Fatalf("%+v: applied %v, %v", tag, got, err)
		}
	}
	try(s, partd.Tag{Session: a, Number: 1, CRC: 5}, piece, true, nil)
	try(s, partd.Tag{Session: a, Number: 1, CRC: 5}, piece, false, nil)
	try(s, partd.Tag{Session: a, Number: 1, CRC: 6}, piece, false, partd.ErrSessionReused)
	try(s, partd.Tag{Session: a, Number: 3, CRC: 5}, piece, false, partd.ErrSessionGap)
	try(s, partd.Tag{Session: a + 1, Number: 1, CRC: 5}, piece, false, partd.ErrSessionExpired)
	try(s, partd.Tag{Session: a, Number: 2, CRC: 5}, partd.Operation{Change: partd.ChangeSetOnce, Entries: []partd.Entry{{Key: "k", Value: []byte("no")}}}, true, nil)
	try(s, partd.Tag{Session: a, Number: 3, CRC: 5}, partd.Operation{Change: partd.ChangeDelete, Keys: []string{"none"}}, true, nil)
	wantValue(t, s, "k", "x")
	// The tag of a Drop is recorded, and the table is reused.
	try(s, partd.Tag{Session: a, Number: 4, CRC: 5}, partd.Operation{Change: partd.ChangeDrop}, true, nil)
	mustAppend(t, s, "k", "after")
	try(s, partd.Tag{Session: a, Number: 4, CRC: 5}, partd.Operation{Change: partd.ChangeDrop}, false, nil)
	wantValue(t, s, "k", "after")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir, &Options{MaxSessions: 2})
	try(s, partd.Tag{Session: a, Number: 4, CRC: 5}, partd.Operation{Change: partd.ChangeDrop}, false, nil)
	b, err := s.NewSession(ctx)
	if err != nil || b != a+1 {
		t.Fatal(b, err)
	}
	if c, err := s.NewSession(ctx); err != nil || c != b+1 {
		t.Fatal(c, err)
	}
	// There are three sessions. The unused one is forgotten first.
	try(s, partd.Tag{Session: b, Number: 1, CRC: 5}, piece, false, partd.ErrSessionExpired)
	try(s, partd.Tag{Session: b + 1, Number: 1, CRC: 5}, piece, true, nil)
	try(s, partd.Tag{Session: a, Number: 5, CRC: 5}, piece, true, nil)
	// Now the session that was unused for longest is forgotten, even after reopening.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir, &Options{MaxSessions: 2})
	if _, err := s.NewSession(ctx); err != nil {
		t.Fatal(err)
	}
	try(s, partd.Tag{Session: b + 1, Number: 2, CRC: 5}, piece, false, partd.ErrSessionExpired)
	try(s, partd.Tag{Session: a, Number: 6, CRC: 5}, piece, true, nil)
	if err := s.EndSession(ctx, a); err != nil {
		t.Fatal(err)
	}
	try(s, partd.Tag{Session: a, Number: 7, CRC: 5}, piece, false, partd.ErrSessionExpired)
}

// A batch too large for memory is still all or nothing. A value has its pieces in the
// order of the appends, including large pieces between small ones.
func TestLargeBatch(t *testing.T) {
	s := mustOpen(t, t.TempDir(), &Options{Memory: MinMemory})
	mustAppend(t, s, "k0", "before ")
	var batch []partd.Entry
	want := map[string][]byte{"k0": []byte("before ")}
	for i := range 9000 {
		v := bytes.Repeat([]byte{byte(i)}, 1+i%1500)
		if i%500 == 0 {
			v = bytes.Repeat([]byte{byte(i)}, 100_000)
		}
		k := fmt.Sprint("k", i%50)
		batch = append(batch, partd.Entry{Key: k, Value: v})
		want[k] = append(want[k], v...)
	}
	if err := s.Append(t.Context(), batch...); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, "k0", " after")
	want["k0"] = append(want["k0"], " after"...)
	for range 2 {
		for k, v := range want {
			wantValue(t, s, k, string(v))
			r, err := s.Open(t.Context(), k)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, v) {
				t.Fatalf("Open of %s: %d bytes, want %d, %v", k, len(got), len(v), err)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// The ledger must detect a valid entry that is in the wrong place or duplicated.
func TestLedger(t *testing.T) {
	mem := vfstest.NewMem()
	h := hooks{fs: mem, noCRC: true}
	s, err := open("/s", nil, h)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"key1": "value one", "key2": "value two", "key3": "value 333"} {
		mustAppend(t, s, k, v)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	ledger, err := s.Verify(t.Context())
	if err != nil || ledger.Pieces != 3 || ledger.Bytes != 27 {
		t.Fatalf("%+v, %v", ledger, err)
	}
	if _, err := contents(s); err != nil {
		t.Fatal(err)
	}
	// Swap two values and recompute the blocks' checksums, so that these do not detect
	// the change.
	f, err := mem.OpenFile("/s/seg-00000001", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	one, two := bytes.Index(b, []byte("value one")), bytes.Index(b, []byte("value two"))
	for off, v := range map[int]string{one: "value two", two: "value one"} {
		if _, err := f.WriteAt([]byte(v), int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var corrupt *partd.CorruptError
	if _, err := contents(s); !errors.As(err, &corrupt) || !strings.Contains(err.Error(), "ledger") {
		t.Fatalf("a Scan of swapped values: %v", err)
	}
	if _, err := s.Verify(t.Context()); !errors.As(err, &corrupt) || corrupt.Path != "/s/seg-00000001" {
		t.Fatalf("Verify of swapped values: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A store much larger than its memory, with tables, ranges and keys that all exceed what
// a Scan may load, must be read correctly.
func TestMuchMoreThanMemory(t *testing.T) {
	h := hooks{fs: vfstest.NewMem(), tableBytes: 16 << 10, blobBytes: 600, readBytes: 4 << 10, batchBytes: 1 << 10, walStep: 4096}
	s, err := open("/s", nil, h)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{}
	for i := range 6000 {
		k := fmt.Sprint(i % 900)
		switch {
		case i%3 == 0:
			k = "hot"
		case i%7 == 0:
			k = "warm"
		}
		v := bytes.Repeat([]byte(fmt.Sprint(i, " ")), 1+i%20)
		if i%211 == 0 {
			v = bytes.Repeat([]byte{byte(i)}, 700)
		}
		if err := s.Append(t.Context(), partd.Entry{Key: k, Value: v}); err != nil {
			t.Fatal(err)
		}
		want[k] = append(want[k], v...)
	}
	got, err := contents(s)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d keys, want %d, %v", len(got), len(want), err)
	}
	for k, v := range want {
		if !bytes.Equal(got[k], v) {
			t.Fatalf("key %s: %d bytes, want %d", k, len(got[k]), len(v))
		}
	}
	n := 0
	for k, err := range s.Keys(t.Context()) {
		if n++; err != nil || k.Size != int64(len(want[k.Key])) {
			t.Fatalf("%+v, %v, want %d bytes", k, err, len(want[k.Key]))
		}
	}
	st, err := s.Stat(t.Context())
	if err != nil || n != len(want) || st.Keys != int64(n) || st.Disk == 0 {
		t.Fatalf("%d keys, %+v, %v", n, st, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
