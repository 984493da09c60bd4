package partd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/vfs/vfstest"
)

// listed is a store that lists and opens its keys, and cannot scan. It notes what
// was opened.
type listed struct {
	partd.Partd
	partd.Lister
	opened []string
}

func (l *listed) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	l.opened = append(l.opened, key)
	return partd.Open(ctx, l.Partd, key)
}

// keysOfPart returns the keys of one part, sorted.
func keysOfPart(t *testing.T, store partd.Partd, part, parts int) []string {
	t.Helper()
	var keys []string
	for c, err := range partd.ScanPart(t.Context(), store, part, parts) {
		if err != nil {
			t.Fatal(err)
		}
		if c.Last {
			keys = append(keys, c.Key)
		}
	}
	slices.Sort(keys)
	return keys
}

func fillNumbered(t *testing.T, store partd.Partd, n int) {
	t.Helper()
	var batch []partd.Entry
	for i := range n {
		batch = append(batch, partd.Entry{Key: fmt.Sprint("key ", i), Value: []byte("value")})
	}
	if err := store.Append(t.Context(), batch...); err != nil {
		t.Fatal(err)
	}
}

// A store that cannot scan is not asked for the values of other parts.
func TestFallbackOpensThePartAlone(t *testing.T) {
	d := partd.NewDict()
	fillNumbered(t, d, 100)
	store := &listed{Partd: d, Lister: d}
	for part := range 3 {
		store.opened = nil
		keys := keysOfPart(t, store, part, 3)
		slices.Sort(store.opened)
		if len(keys) < 10 || !slices.Equal(keys, store.opened) {
			t.Errorf("part %d has %d keys, and %d were opened", part, len(keys), len(store.opened))
		}
	}
}

// scans is a store that scans and no more.
type scans struct {
	partd.Partd
	partd.Scanner
}

// A key's part must never change where a store has none of its own: processes of
// different versions share a store.
func TestPartsNeverChange(t *testing.T) {
	want := map[string]int{"": 957, "a": 10, "b": 243, "key 1": 593, "key 2": 937, "\xff": 309, strings.Repeat("long", 100): 971}
	d := partd.NewDict()
	for key := range want {
		if err := d.Append(t.Context(), partd.Entry{Key: key, Value: []byte("1")}); err != nil {
			t.Fatal(err)
		}
	}
	for name, store := range map[string]partd.Partd{"by Scan": scans{d, d}, "by Keys and Open": &listed{Partd: d, Lister: d}} {
		got := map[string]int{}
		for part := range 1000 {
			for _, key := range keysOfPart(t, store, part, 1000) {
				got[key] = part
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A part of a File opens the files of its own keys, and is the same for whoever has
// the directory open.
func TestFileOpensThePartAlone(t *testing.T) {
	var mu sync.Mutex
	opened := map[string]bool{}
	mem := vfstest.NewMem()
	open := func() *partd.File {
		f, err := partd.OpenFileOn(vfstest.Inject(mem, func(op vfstest.Op, path string) error {
			mu.Lock()
			defer mu.Unlock()
			if name := filepath.Base(path); op == vfstest.OpOpen && name[0] != '.' && !strings.HasPrefix(name, "%undo") {
				opened[name] = true
			}
			return nil
		}), nil, 1)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := open()
	fillNumbered(t, f, 100)
	long := strings.Repeat("long", 100) // whose key is in a file of its own
	if err := f.Append(t.Context(), partd.Entry{Key: long, Value: []byte("value")}); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	first, second := open(), open()
	defer first.Close()
	defer second.Close()
	keysOfPart(t, first, 0, 1)
	_, whole := first.ReaderMemory()
	defer func() {
		if _, after := first.ReaderMemory(); after < whole {
			t.Errorf("after a part, a listing of everything is said to take %d bytes instead of %d", after, whole)
		}
	}()
	for part := range 4 {
		keys := keysOfPart(t, first, part, 4)
		clear(opened)
		if again := keysOfPart(t, second, part, 4); len(keys) < 10 || !slices.Equal(keys, again) {
			t.Errorf("part %d has the keys %q, and opened by another %q", part, keys, again)
		}
		files := len(keys)
		if slices.Contains(keys, long) {
			files++
		}
		if len(opened) != files {
			t.Errorf("part %d has %d keys in %d files, and %d were opened: %q", part, len(keys), files, len(opened), slices.Sorted(maps.Keys(opened)))
		}
	}
}

// A part of a Buffer is one of what both stores hold.
func TestBufferPartsHoldWhatIsInMemory(t *testing.T) {
	slow := partd.NewDict()
	fillNumbered(t, slow, 10)
	b, err := partd.NewBuffer(partd.NewDict(), slow, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	fillNumbered(t, b, 20)
	n := 0
	for part := range 2 {
		n += len(keysOfPart(t, b, part, 2))
	}
	if n != 20 {
		t.Errorf("%d keys, want 20", n)
	}
	before := b.MemoryUsed()
	fillNumbered(t, b, 1)
	for _, err := range b.ScanPart(t.Context(), 2, 2) {
		if err == nil {
			t.Error("there is no part 2 of 2")
		}
	}
	if b.MemoryUsed() <= before {
		t.Error("a part that there is not has flushed the buffer")
	}
}

// Readers of all parts at once hold what the store holds.
func TestPartsAtOnce(t *testing.T) {
	d := partd.NewDict()
	fillNumbered(t, d, 1000)
	for name, store := range map[string]partd.Partd{"dict": d, "filter": scans{d, d}} {
		t.Run(name, func(t *testing.T) {
			var wg sync.WaitGroup
			counts := make([]int, 4)
			for part := range counts {
				wg.Go(func() {
					for _, err := range partd.ScanPart(t.Context(), store, part, len(counts)) {
						if err != nil {
							t.Error(err)
						}
						counts[part]++
					}
				})
			}
			wg.Wait()
			if counts[0]+counts[1]+counts[2]+counts[3] != 1000 || slices.Min(counts) < 150 {
				t.Errorf("parts of %v keys", counts)
			}
		})
	}
}

// breaking is a store whose readers break off after some bytes.
type breaking struct {
	partd.Partd
	partd.Lister
	bytes int64
}

func (b breaking) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	r, err := partd.Open(ctx, b.Partd, key)
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(r, b.bytes), iotest.ErrReader(errBroken)), r}, err
}

var errBroken = fmt.Errorf("the connection broke: %w", io.EOF)

// A connection that breaks off is an error, and not the end of a value.
func TestReaderBreaksOff(t *testing.T) {
	d := partd.NewDict()
	fillNumbered(t, d, 3)
	for _, n := range []int64{0, 2} {
		store := breaking{struct{ partd.Partd }{d}, d, n}
		keys := 0
		var last error
		for _, err := range partd.Scan(t.Context(), store) {
			if last = err; err == nil {
				keys++
			}
		}
		if !errors.Is(last, errBroken) {
			t.Errorf("a scan has %d chunks, and ends with %v", keys, last)
		}
	}
	if _, err := partd.Has(t.Context(), breaking{struct{ partd.Partd }{d}, d, 0}, "key 1"); !errors.Is(err, errBroken) {
		t.Errorf("a reader that broke off tells whether there is a key: %v", err)
	}
}
