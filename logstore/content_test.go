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
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestSessions checks the outcomes of tagged operations, and which sessions are forgotten.
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
			t.Fatalf("Apply with tag %+v = %v, %v, want %v, %v", tag, got, err, applied, want)
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
		t.Fatalf("NewSession = %d, %v, want %d", b, err, a+1)
	}
	if c, err := s.NewSession(ctx); err != nil || c != b+1 {
		t.Fatalf("NewSession = %d, %v, want %d", c, err, b+1)
	}
	// Three sessions were issued, and one must be forgotten: the oldest unused session.
	try(s, partd.Tag{Session: b, Number: 1, CRC: 5}, piece, false, partd.ErrSessionExpired)
	try(s, partd.Tag{Session: b + 1, Number: 1, CRC: 5}, piece, true, nil)
	try(s, partd.Tag{Session: a, Number: 5, CRC: 5}, piece, true, nil)
	// Next, the least recently used session must be forgotten, even after reopening.
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

// TestLargeBatch appends a batch that is too large for memory. Each value must have its pieces
// in the order of the appends, including large pieces between small ones.
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
				t.Fatalf("ReadAll of key %s returned wrong data: %d bytes, want %d; error %v", k, len(got), len(v), err)
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

// TestLedger checks that the ledger detects valid entries with swapped values.
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
		t.Fatalf("Verify() = %+v, %v, want 3 pieces and 27 bytes", ledger, err)
	}
	if _, err := contents(s); err != nil {
		t.Fatal(err)
	}
	// Swap two values. The store does not verify the blocks' checksums, so only the ledger can
	// detect the change.
	f, err := mem.OpenFile("/s/seg-00000001", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	firstOffset, secondOffset := bytes.Index(b, []byte("value one")), bytes.Index(b, []byte("value two"))
	for off, v := range map[int]string{firstOffset: "value two", secondOffset: "value one"} {
		if _, err := f.WriteAt([]byte(v), int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var corrupt *partd.CorruptError
	if _, err := contents(s); !errors.As(err, &corrupt) || !strings.Contains(err.Error(), "ledger") {
		t.Fatalf("Scan of swapped values: error %v, want a CorruptError about the ledger", err)
	}
	if _, err := s.Verify(t.Context()); !errors.As(err, &corrupt) || corrupt.Path != "/s/seg-00000001" {
		t.Fatalf("Verify of swapped values: error %v, want a CorruptError for the segment file", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMuchMoreThanMemory checks that a store whose tables, ranges and largest keys all exceed the
// memory of a Scan can be read.
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
		t.Fatalf("Scan yielded %d keys, want %d; error %v", len(got), len(want), err)
	}
	for k, v := range want {
		if !bytes.Equal(got[k], v) {
			t.Fatalf("Scan yielded wrong data for key %[1]s: %[2]d bytes, want %[3]d", k, len(got[k]), len(v))
		}
	}
	n := 0
	for k, err := range s.Keys(t.Context()) {
		if n++; err != nil || k.Size != int64(len(want[k.Key])) {
			t.Fatalf("Keys yielded %+v, %v, want %d bytes", k, err, len(want[k.Key]))
		}
	}
	st, err := s.Stat(t.Context())
	if err != nil || n != len(want) || st.Keys != int64(n) || st.Disk == 0 {
		t.Fatalf("Keys yielded %d keys, and Stat() = %+v, %v, want %d keys and a size on disk", n, st, err, len(want))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
