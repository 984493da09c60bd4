package logstore

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

var makeGolden = flag.Bool("make-golden", false, "rewrite testdata/golden; allowed only until the first release")

const goldenDir = "testdata/golden"

func goldenContent() map[string]string {
	m := map[string]string{"": "the empty key", "set to nothing": "", "pieces": "onetwothree", "set": "newer", "large": strings.Repeat("0123456789", 7000)}
	for i := range 200 {
		m[fmt.Sprint("key", i)] = strings.Repeat(fmt.Sprint(i, ","), i%17+1)
	}
	m["hot"] = strings.Repeat("a hot key's piece. ", 2000)
	return m
}

// makeGoldenStore writes a store with everything that the format supports: segments of
// each compression format, runs of hot keys, resets, a large value, a session, and
// records that are only in a write-ahead file.
func makeGoldenStore(t *testing.T, dir string) {
	must.Do(t, os.RemoveAll(dir))
	want := goldenContent()
	h := hooks{fs: osFS, tableBytes: 128 << 10, walStep: 4096}
	for i, c := range []Compression{None, S2, Zstd} {
		s := openWith(t, dir, &Options{Compression: c}, h)
		add := func(key, value string) {
			must.Do(t, s.Append(t.Context(), partd.Entry{Key: key, Value: []byte(value)}))
		}
		add("pieces", []string{"one", "two", "three"}[i])
		add("hot", want["hot"][:19*300])
		want["hot"] = want["hot"][19*300:]
		for k := range 200 {
			if k%3 == i {
				add(fmt.Sprint("key", k), want[fmt.Sprint("key", k)])
			}
		}
		if i == 0 {
			add("", "the empty key")
			add("set", "older")
			add("gone", "x")
		}
		if i == 2 {
			add("large", want["large"])
			for _, err := range []error{
				s.Set(t.Context(), "set", []byte("newer")), s.Set(t.Context(), "set to nothing", nil), s.Delete(t.Context(), "gone"),
			} {
				must.Do(t, err)
			}
			must.Get(s.NewSession(t.Context()))(t)
			must.Do(t, s.Flush(t.Context()))
			add("hot", want["hot"])
			// A copy at this point looks like the store after a kill.
			copyDir(t, dir, dir+"-copy")
		}
		must.Do(t, s.Close())
	}
	must.Do(t, os.RemoveAll(dir))
	must.Do(t, os.Rename(dir+"-copy", dir))
	for _, name := range []string{lockName, spareName} {
		must.Do(t, os.Remove(filepath.Join(dir, name)))
	}
}

func copyDir(t *testing.T, source, target string) {
	t.Helper()
	must.Do(t, os.RemoveAll(target))
	must.Do(t, os.CopyFS(target, os.DirFS(source)))
}

// TestGolden checks that this version reads the golden store.
func TestGolden(t *testing.T) {
	if *makeGolden {
		makeGoldenStore(t, goldenDir)
	}
	dir := filepath.Join(t.TempDir(), "store")
	copyDir(t, goldenDir, dir)
	want := goldenContent()
	for _, opts := range []*Options{{ReadOnly: true, Memory: 8 << 20}, {Memory: 8 << 20}, {ReadOnly: true}} {
		s := openWith(t, dir, opts, hooks{fs: osFS, walStep: 4096})
		got := must.Get(contents(s))(t)
		if len(got) != len(want) {
			t.Errorf("Scan yielded %d keys, want %d", len(got), len(want))
		}
		for k, v := range want {
			b, err := s.Get(t.Context(), k)
			if err != nil || string(b[0]) != v || !bytes.Equal(got[k], b[0]) {
				t.Errorf("key %q: error %v, Get returned %d bytes and Scan %d, want %d bytes", k, err, len(b[0]), len(got[k]), len(v))
			}
		}
		mustVerify(t, s)
		if n := uint32(s.journal.sessions.issued); n != 1 { // the upper half is random
			t.Errorf("the last issued session ends with %d, want 1", n)
		}
		must.Do(t, s.Close())
	}
}

// TestGoldenBytes changes the golden store, which has a fixed ID and seed. It compares each file
// with the expected bytes. It uses no compression, because the bytes of compressed data
// depend on a library's version.
func TestGoldenBytes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	copyDir(t, goldenDir, dir)
	h := hooks{fs: osFS, tableBytes: 128 << 10, walStep: 4096, minMerge: -1, reclaimSlack: -1}
	check := func(label, want string) {
		if got := fileSums(t, dir); got != want {
			t.Errorf("%s, the files are\n%swant\n%s", label, got, want)
		}
	}
	s := openWith(t, dir, &Options{Memory: 8 << 20}, h)
	session := newSession(t, s)
	for i := range 3000 {
		op := partd.Operation{Change: partd.ChangeAppend, Entries: []partd.Entry{
			{Key: fmt.Sprint("key", i%300), Value: []byte(strings.Repeat("v", i%90))},
			{Key: "hot", Value: []byte(strings.Repeat("h", i%50+1))},
		}}
		switch i % 500 {
		case 100:
			op.Entries[0].Value = make([]byte, 20<<10)
		case 200:
			op = partd.Operation{Change: partd.ChangeSet, Entries: op.Entries[:1]}
		case 300:
			op = partd.Operation{Change: partd.ChangeDelete, Keys: []string{"key1", "key2"}}
		}
		must.Get(s.Apply(t.Context(), partd.Tag{Session: session, Number: uint64(i + 1), CRC: uint32(i)}, op))(t)
		if i%1000 == 999 {
			must.Do(t, s.Flush(t.Context()))
		}
	}
	must.Get(s.Pop(t.Context(), "key3", "key5", "nothing"))(t)
	check("while the store is open", goldenOpen)
	must.Do(t, s.Close())
	check("after the store is closed", goldenClosed)
	h.minMerge, h.smallLen = 2, 1<<20
	s = openWith(t, dir, &Options{Memory: 8 << 20}, h) // starts a merge
	must.Do(t, s.Close())                              // waits for the merge
	check("after segments are merged", goldenMerged)
}

// fileSums returns the names, sizes and checksums of the store's files, one file per line.
func fileSums(t *testing.T, dir string) string {
	entries := must.Get(os.ReadDir(dir))(t)
	var list strings.Builder
	for _, e := range entries {
		if e.Name() == lockName || e.Name() == spareName {
			continue
		}
		b := must.Get(os.ReadFile(filepath.Join(dir, e.Name())))(t)
		fmt.Fprintf(&list, "%s %d %.8x\n", e.Name(), len(b), sha256.Sum256(b))
	}
	return list.String()
}

const (
	goldenOpen = `MANIFEST 250 8733a4b1e0cbf3f2
blob-00000002 192944 e8e2b51866c5d6b0
seg-00000001 282177 b1820a3e3e1eb9cd
wal-0 147456 55690b6c0dc5449b
wal-1 147456 6882d49b5547582e
`
	goldenClosed = `MANIFEST 250 0404bf9db2a40a68
blob-00000002 192944 e8e2b51866c5d6b0
seg-00000001 282297 ffe08791de6cfe8d
`
	goldenMerged = `MANIFEST 250 ae195773ec403be6
blob-00000002 192944 e8e2b51866c5d6b0
seg-00000003 293318 a1ed035e99d9b85a
`
)
