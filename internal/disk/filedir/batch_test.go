package filedir

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

func openDir(t *testing.T, fsys vfs.FS, dir string, opts Options) *Dir {
	t.Helper()
	d := must.Get(Open(fsys, dir, opts))(t)
	t.Cleanup(func() { d.Close() })
	return d
}

func appendAll(t *testing.T, d *Dir, keys []string, values [][]byte) {
	t.Helper()
	must.Do(t, d.Write(t.Context(), func(tx Tx) error {
		return tx.Append(t.Context(), Entries{Len: len(keys), At: func(i int) (string, []byte) { return keys[i], values[i] }})
	}))
}

// checkContent checks that a store contains exactly the given values.
func checkContent(t *testing.T, d *Dir, want map[string]string) {
	t.Helper()
	n := 0
	var piece strings.Builder
	err := d.Scan(context.Background(), nil, func(key string, _ int64, data []byte, last bool) bool {
		if piece.Write(data); last {
			if n++; piece.String() != want[key] {
				t.Fatalf("key %q has %d bytes, want %d", key, piece.Len(), len(want[key]))
			}
			piece.Reset()
		}
		return true
	})
	if err != nil || n != len(want) {
		t.Fatalf("the store has %d keys, want %d; %v", n, len(want), err)
	}
}

func TestMaxOpenFiles(t *testing.T) {
	mem := vfstest.NewMem()
	d := openDir(t, mem, "/store", Options{MaxOpenFiles: 5, Hooks: Hooks{KeepLock: -1}})
	for n := range 10 {
		var keys []string
		var values [][]byte
		for k := range 100 {
			keys, values = append(keys, fmt.Sprint("k", k*(n+1))), append(values, []byte("x"))
		}
		appendAll(t, d, keys, values)
		if open := mem.OpenCount(); open > 5+2 { // the journal and the pinned lock file are extra
			t.Fatalf("%d files are open, want at most %d files of keys and two others", open, 5)
		}
		if n := len(d.cache.byKey); n > 5 {
			t.Fatalf("%d files are cached, want at most %d", n, 5)
		}
	}
}

// TestLargeBatch checks that a store keeps neither a long journal nor large buffers.
func TestLargeBatch(t *testing.T) {
	dir := t.TempDir()
	d := openDir(t, vfs.OS{}, dir, Options{})
	text := map[string]*strings.Builder{}
	for range 2 {
		var keys []string
		var values [][]byte
		for k := range 70_000 {
			keys = append(keys, fmt.Sprint("k", k%500))
			values = append(values, []byte(strings.Repeat(fmt.Sprint(k), 40)))
			if k < 500 && text[keys[k]] == nil {
				text[keys[k]] = new(strings.Builder)
			}
			text[keys[k]].Write(values[k])
		}
		appendAll(t, d, keys, values)
	}
	want := map[string]string{}
	for key, b := range text {
		want[key] = b.String()
	}
	checkContent(t, d, want)
	if info, err := os.Stat(filepath.Join(dir, names.Journal)); err != nil || info.Size() > maxKeptJournal {
		t.Fatalf("the journal has %d bytes (error %v), want at most maxKeptJournal", info.Size(), err)
	}
	if cap(d.batch.nextEntry) > maxReusedEntries || cap(d.batch.record) > maxReusedBuffer {
		t.Fatalf("the store keeps buffers for %d entries and %d bytes, want smaller ones", cap(d.batch.nextEntry), cap(d.batch.record))
	}
	must.Do(t, d.Write(t.Context(), func(tx Tx) error { return tx.Drop(t.Context()) }))
	checkContent(t, d, map[string]string{})
	if info, err := os.Stat(filepath.Join(dir, names.Journal)); err != nil || info.Size() != 0 {
		t.Fatalf("the journal has %d bytes after Drop (error %v), want 0", info.Size(), err)
	}
}
