package logstore

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd"
)

// TestGoldenBytes changes the golden store, which has a fixed ID and seed. It compares each file
// with the expected bytes of format 1. It uses no compression, because the bytes of compressed data
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
	s, err := open(dir, &Options{Memory: 8 << 20}, h)
	if err != nil {
		t.Fatal(err)
	}
	session, err := s.NewSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
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
		if _, err := s.Apply(t.Context(), partd.Tag{Session: session, Number: uint64(i + 1), CRC: uint32(i)}, op); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 999 {
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := s.Pop(t.Context(), "key3", "key5", "nothing"); err != nil {
		t.Fatal(err)
	}
	check("while the store is open", goldenOpen)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check("after the store is closed", goldenClosed)
	h.minMerge, h.smallLen = 2, 1<<20
	if s, err = open(dir, &Options{Memory: 8 << 20}, h); err != nil { // starts a merge
		t.Fatal(err)
	}
	if err := s.Close(); err != nil { // waits for the merge
		t.Fatal(err)
	}
	check("after segments are merged", goldenMerged)
}

// fileSums returns the names, sizes and checksums of the store's files, one file per line.
func fileSums(t *testing.T, dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	for _, e := range entries {
		if e.Name() == lockName || e.Name() == spareName {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&list, "%s %d %.8x\n", e.Name(), len(b), sha256.Sum256(b))
	}
	return list.String()
}

const (
	goldenOpen = `MANIFEST 194 9b252cab7f483367
blob-00000002 192944 f2e73389251fda93
seg-00000001 282185 0a57018ee50e45f5
wal-0 147456 afa0ad261972b08a
wal-1 147456 d7a133bfdbcff7c6
`
	goldenClosed = `MANIFEST 194 106b4674b3cd0612
blob-00000002 192944 f2e73389251fda93
seg-00000001 282305 4779d3e1f5f18c23
`
	goldenMerged = `MANIFEST 250 fa750cb43f89dee5
blob-00000002 192944 f2e73389251fda93
seg-00000003 293318 9d6fc5855d76d124
`
)
