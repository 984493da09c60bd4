package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/vfs"
)

func mustOpen(t *testing.T, dir string, opts *Options) *Store {
	t.Helper()
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func mustAppend(t *testing.T, s *Store, key, value string) {
	t.Helper()
	if err := s.Append(t.Context(), partd.Entry{Key: key, Value: []byte(value)}); err != nil {
		t.Fatal(err)
	}
}

func wantValue(t *testing.T, s *Store, key, want string) {
	t.Helper()
	got, err := s.Get(t.Context(), key)
	if err != nil || string(got[0]) != want {
		t.Fatalf("key %q: %.100q, %v, want %.100q", key, got, err, want)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{Memory: -1}, {Memory: MinMemory - 1}, {Memory: MaxMemory + 1}, {FileSize: -1}, {MaxSessions: -1}, {Compression: 9},
	} {
		if s, err := Open(t.TempDir(), &o); err == nil {
			t.Errorf("%+v was accepted", o)
			_ = s.Close()
		}
	}
	for _, c := range []Compression{None, S2, Zstd} {
		if got, err := ParseCompression(c.String()); err != nil || got != c {
			t.Errorf("%v: %v, %v", c, got, err)
		}
	}
	if _, err := ParseCompression("lzw"); err == nil || !strings.Contains(err.Error(), "zstd") {
		t.Errorf("the error must list what there is: %v", err)
	}
}

// A store in use is refused to others, with the name of who uses it.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, nil)
	mustAppend(t, s, "a", "1")
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []*Options{nil, {ReadOnly: true}} {
		_, err := Open(dir, o)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d on %s", os.Getpid(), host)) {
			t.Fatalf("opened by another: %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r1 := mustOpen(t, dir, &Options{ReadOnly: true})
	r2 := mustOpen(t, dir, &Options{ReadOnly: true})
	wantValue(t, r1, "a", "1")
	wantValue(t, r2, "a", "1")
	if _, err := Open(dir, nil); err == nil {
		t.Fatal("opened for writing beside readers")
	}
	if err := r1.Append(t.Context(), partd.Entry{Key: "a", Value: []byte("2")}); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("a change of a store opened for reading: %v", err)
	}
	if err := r1.Drop(t.Context()); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("Drop of a store opened for reading: %v", err)
	}
}

// Whoever deletes the lock file lets others in; the store notices before it
// changes what they may have changed.
func TestLockFileRemoved(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, "a", "1")
	if err := os.Remove(filepath.Join(dir, lockName)); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(t.Context()); !errors.Is(err, errLockLost) {
		t.Fatalf("Flush: %v", err)
	}
	if err := s.Append(t.Context(), partd.Entry{Key: "a", Value: []byte("2")}); !errors.Is(err, partd.ErrNeedsReopen) {
		t.Fatalf("Append: %v", err)
	}
	wantValue(t, s, "a", "1")
	if err := s.Close(); err == nil {
		t.Fatal("Close said nothing")
	}
	s = mustOpen(t, dir, nil)
	wantValue(t, s, "a", "1")
}

// Files of others stay as they are, whatever the store does.
func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	names := []string{"notes.txt", "seg-1", "seg-00000001.bak", "wal-3", "blob-x0000001", ".hidden", "MANIFEST.old"}
	for _, n := range names {
		if err := os.WriteFile(filepath.Join(dir, n), []byte(n), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	s := mustOpen(t, dir, nil)
	mustAppend(t, s, "a", "1")
	for _, err := range []error{s.Flush(t.Context()), s.Drop(t.Context()), s.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s = mustOpen(t, dir, nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if b, err := os.ReadFile(filepath.Join(dir, n)); err != nil || string(b) != n {
			t.Errorf("%s: %q, %v", n, b, err)
		}
	}
}

func TestNoStoreHere(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "none"), &Options{ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reading what is not there: %v", err)
	}
	if _, err := Open(dir, &Options{ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reading an empty directory: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, nil); err == nil {
		t.Error("a file was opened as a store")
	}
}

// A file of a newer format is refused, not taken for damage.
func TestNewerFormat(t *testing.T) {
	for _, name := range []string{manifestName, "seg-00000001"} {
		dir := t.TempDir()
		s := mustOpen(t, dir, nil)
		mustAppend(t, s, "a", "1")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[8] = formatVersion + 1
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, nil); err == nil || !strings.Contains(err.Error(), "use a newer") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSessions(t *testing.T) {
	dir := t.TempDir()
	ctx := t.Context()
	s := mustOpen(t, dir, &Options{MaxSessions: 2})
	a, err := s.NewSession(ctx)
	if err != nil {
		t.Fatal(err)
	}
	piece := Operation{Change: ChangeAppend, Entries: []partd.Entry{{Key: "k", Value: []byte("x")}}}
	try := func(s *Store, tag Tag, op Operation, applied bool, want error) {
		t.Helper()
		got, err := s.Apply(ctx, tag, op)
		if got != applied || !errors.Is(err, want) {
			t.Fatalf("%+v: applied %v, %v", tag, got, err)
		}
	}
	try(s, Tag{a, 1, 5}, piece, true, nil)
	try(s, Tag{a, 1, 5}, piece, false, nil)
	try(s, Tag{a, 1, 6}, piece, false, ErrSessionReused)
	try(s, Tag{a, 3, 5}, piece, false, ErrSessionGap)
	try(s, Tag{a + 1, 1, 5}, piece, false, ErrSessionExpired)
	try(s, Tag{a, 2, 5}, Operation{Change: ChangeSetOnce, Entries: []partd.Entry{{Key: "k", Value: []byte("no")}}}, true, nil)
	try(s, Tag{a, 3, 5}, Operation{Change: ChangeDelete, Keys: []string{"none"}}, true, nil)
	wantValue(t, s, "k", "x")
	// The tag of a Drop is kept, and so is the table.
	try(s, Tag{a, 4, 5}, Operation{Change: ChangeDrop}, true, nil)
	mustAppend(t, s, "k", "after")
	try(s, Tag{a, 4, 5}, Operation{Change: ChangeDrop}, false, nil)
	wantValue(t, s, "k", "after")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir, &Options{MaxSessions: 2})
	try(s, Tag{a, 4, 5}, Operation{Change: ChangeDrop}, false, nil)
	b, err := s.NewSession(ctx)
	if err != nil || b != a+1 {
		t.Fatal(b, err)
	}
	if c, err := s.NewSession(ctx); err != nil || c != b+1 {
		t.Fatal(c, err)
	}
	try(s, Tag{a, 5, 5}, piece, false, ErrSessionExpired) // forgotten: there were three
	if err := s.EndSession(ctx, b); err != nil {
		t.Fatal(err)
	}
	try(s, Tag{b, 1, 5}, piece, false, ErrSessionExpired)
}

// A batch that is too large for the memory is still all or nothing, and a
// value is what was appended in order, large pieces between small ones.
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
				t.Fatalf("Open of %s: %d bytes instead of %d, %v", k, len(got), len(v), err)
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

// What the ledger is for: an entry that is valid in itself, and in the wrong
// place, or there twice, is noticed.
func TestLedger(t *testing.T) {
	mem := vfs.NewMem()
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
	found, err := s.Verify(t.Context())
	if err != nil || found.Pieces != 3 || found.Bytes != 27 {
		t.Fatalf("%+v, %v", found, err)
	}
	if _, err := contents(s); err != nil {
		t.Fatal(err)
	}
	// Swap two values, as no checksum of a block that is computed anew would
	// tell.
	f, err := mem.OpenFile("/s/seg-00000001", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := readWhole(f, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	one, two := bytes.Index(b, []byte("value one")), bytes.Index(b, []byte("value two"))
	for at, v := range map[int]string{one: "value two", two: "value one"} {
		if _, err := f.WriteAt([]byte(v), int64(at)); err != nil {
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

// A store with far more than its memory, in tables, ranges and keys that are
// all larger than what a Scan may load, reads back right.
func TestMuchMoreThanMemory(t *testing.T) {
	h := hooks{fs: vfs.NewMem(), tableBytes: 16 << 10, blobBytes: 600, readBytes: 4 << 10, batchBytes: 1 << 10, walStep: 4096}
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
		t.Fatalf("%d keys instead of %d, %v", len(got), len(want), err)
	}
	for k, v := range want {
		if !bytes.Equal(got[k], v) {
			t.Fatalf("key %s: %d bytes instead of %d", k, len(got[k]), len(v))
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
