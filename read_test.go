package partd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// listStore is a store that can list and open keys, but not scan. It records the keys that are opened.
type listStore struct {
	partd.Partd
	partd.Lister
	opened []string
}

func (l *listStore) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	l.opened = append(l.opened, key)
	return partd.Open(ctx, l.Partd, key)
}

func keysOfPart(t *testing.T, store partd.Partd, part, parts int) []string {
	t.Helper()
	var keys []string
	for c, err := range partd.ScanPart(t.Context(), store, part, parts) {
		must.Do(t, err)
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
	must.Do(t, store.Append(t.Context(), batch...))
}

// TestFallbackOpensOnlyThePart checks that ScanPart of a store that cannot scan opens only the keys of the requested
// part.
func TestFallbackOpensOnlyThePart(t *testing.T) {
	d := partd.NewDict()
	fillNumbered(t, d, 100)
	store := &listStore{Partd: d, Lister: d}
	for part := range 3 {
		store.opened = nil
		keys := keysOfPart(t, store, part, 3)
		slices.Sort(store.opened)
		if len(keys) < 10 || !slices.Equal(keys, store.opened) {
			t.Errorf("part %d has %d keys, but ScanPart opened %d, want the same keys and at least 10", part, len(keys), len(store.opened))
		}
	}
}

type scanOnlyStore struct {
	partd.Partd
	partd.Scanner
}

// eagerStore counts the calls of its methods, like a store that opens a snapshot in them.
type eagerStore struct {
	*partd.Dict
	scans, parts int
}

func (e *eagerStore) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] {
	e.scans++
	return e.Dict.Scan(ctx)
}

func (e *eagerStore) ScanPart(ctx context.Context, part, parts int) iter.Seq2[partd.Chunk, error] {
	e.parts++
	return e.Dict.ScanPart(ctx, part, parts)
}

// TestScanPartCallsOneMethod checks that ScanPart does not call Scan of a store that can scan parts.
func TestScanPartCallsOneMethod(t *testing.T) {
	for _, parts := range []int{1, 2} {
		store := &eagerStore{Dict: partd.NewDict()}
		if keysOfPart(t, store, 0, parts); store.scans != 0 || store.parts != 1 {
			t.Errorf("ScanPart of part 0 of %d called Scan %d times and ScanPart %d times, want 0 and 1", parts, store.scans, store.parts)
		}
	}
}

// TestPartsNeverChange checks that keys stay in the same parts, because processes of different versions can share a
// store.
func TestPartsNeverChange(t *testing.T) {
	want := map[string]int{"": 957, "a": 10, "b": 243, "key 1": 593, "key 2": 937, "\xff": 309, strings.Repeat("long", 100): 971}
	d := partd.NewDict()
	for key := range want {
		must.Do(t, d.Append(t.Context(), partd.Entry{Key: key, Value: []byte("1")}))
	}
	for name, store := range map[string]partd.Partd{"by Scan": scanOnlyStore{d, d}, "by Keys and Open": &listStore{Partd: d, Lister: d}} {
		got := map[string]int{}
		for part := range 1000 {
			for _, key := range keysOfPart(t, store, part, 1000) {
				got[key] = part
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: the parts of the keys are %v, want %v", name, got, want)
		}
	}
}

// TestFileOpensOnlyThePart checks that ScanPart of a File opens only the part's files, and that the
// parts are the same for every store with the directory.
func TestFileOpensOnlyThePart(t *testing.T) {
	var mu sync.Mutex
	opened := map[string]bool{}
	mem := vfstest.NewMem()
	open := func() *partd.File {
		f := must.Get(partd.OpenFileOn(vfstest.Inject(mem, func(op vfstest.Op, path string) error {
			mu.Lock()
			defer mu.Unlock()
			if name := filepath.Base(path); op == vfstest.OpOpen && name[0] != '.' && !strings.HasPrefix(name, "%undo") {
				opened[name] = true
			}
			return nil
		})))(t)
		return f
	}
	f := open()
	fillNumbered(t, f, 100)
	longKey := strings.Repeat("long", 100) // a separate file stores the text of a long key
	must.Do(t, f.Append(t.Context(), partd.Entry{Key: longKey, Value: []byte("value")}))
	must.Do(t, f.Close())
	first, second := open(), open()
	defer first.Close()
	defer second.Close()
	keysOfPart(t, first, 0, 1)
	_, listingMemory := first.ReaderMemory()
	defer func() {
		if _, after := first.ReaderMemory(); after < listingMemory {
			t.Errorf("after a scan of a part, ReaderMemory returns %d bytes for a listing, want at least %d", after, listingMemory)
		}
	}()
	for part := range 4 {
		keys := keysOfPart(t, first, part, 4)
		clear(opened)
		if secondKeys := keysOfPart(t, second, part, 4); len(keys) < 10 || !slices.Equal(keys, secondKeys) {
			t.Errorf("part %d has the keys %q in one store, but %q in another", part, keys, secondKeys)
		}
		files := len(keys)
		if slices.Contains(keys, longKey) {
			files++
		}
		if len(opened) != files {
			t.Errorf("part %d has %d keys in %d files, but ScanPart opened %d: %q", part, len(keys), files, len(opened), slices.Sorted(maps.Keys(opened)))
		}
	}
}

// TestBufferPartsHaveBufferedData checks that the parts of a Buffer have the data of both stores.
func TestBufferPartsHaveBufferedData(t *testing.T) {
	slow := partd.NewDict()
	fillNumbered(t, slow, 10)
	b := must.Get(partd.NewBuffer(partd.NewDict(), slow, nil))(t)
	defer b.Close()
	fillNumbered(t, b, 20)
	n := 0
	for part := range 2 {
		n += len(keysOfPart(t, b, part, 2))
	}
	if n != 20 {
		t.Errorf("the parts have %d keys in total, want 20", n)
	}
	before := b.MemoryUsed()
	fillNumbered(t, b, 1)
	for _, err := range b.ScanPart(t.Context(), 2, 2) {
		if err == nil {
			t.Error("ScanPart(2, 2) succeeded, want an error")
		}
	}
	if b.MemoryUsed() <= before {
		t.Error("ScanPart of an invalid part flushed the buffer")
	}
}

func TestConcurrentParts(t *testing.T) {
	d := partd.NewDict()
	fillNumbered(t, d, 1000)
	for name, store := range map[string]partd.Partd{"dict": d, "scan only": scanOnlyStore{d, d}} {
		t.Run(name, func(t *testing.T) {
			counts := make([]int, 4)
			must.Concurrently(len(counts), func(part int) {
				for _, err := range partd.ScanPart(t.Context(), store, part, len(counts)) {
					must.Check(t, err)
					counts[part]++
				}
			})
			if counts[0]+counts[1]+counts[2]+counts[3] != 1000 || slices.Min(counts) < 150 {
				t.Errorf("the parts have %v keys, want 1000 in total and at least 150 in each", counts)
			}
		})
	}
}

// breakingStore is a store whose readers fail after a given number of bytes.
type breakingStore struct {
	partd.Partd
	partd.Lister
	bytes int64
}

func (b breakingStore) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	r, err := partd.Open(ctx, b.Partd, key)
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(r, b.bytes), iotest.ErrReader(errBroken)), r}, err
}

var errBroken = fmt.Errorf("the connection broke: %w", io.EOF)

// TestReaderBrokenConnection checks that a broken connection is an error, not the end of a value.
func TestReaderBrokenConnection(t *testing.T) {
	d := partd.NewDict()
	fillNumbered(t, d, 3)
	for _, n := range []int64{0, 2} {
		store := breakingStore{struct{ partd.Partd }{d}, d, n}
		keys := 0
		var last error
		for _, err := range partd.Scan(t.Context(), store) {
			if last = err; err == nil {
				keys++
			}
		}
		if !errors.Is(last, errBroken) {
			t.Errorf("Scan yielded %d chunks and then the error %v, want %v", keys, last, errBroken)
		}
	}
	if _, err := partd.Has(t.Context(), breakingStore{struct{ partd.Partd }{d}, d, 0}, "key 1"); !errors.Is(err, errBroken) {
		t.Errorf("Has with a broken reader: error %v, want %v", err, errBroken)
	}
}

// TestValuesOfBrokenScan checks that Values does not mistake a broken connection for the end of a value or
// of the scan.
func TestValuesOfBrokenScan(t *testing.T) {
	for _, broken := range []error{io.EOF, io.ErrUnexpectedEOF, fmt.Errorf("the connection broke: %w", io.EOF), nil} {
		for _, last := range []bool{true, false} {
			if broken == nil && last {
				continue // a scan that ends normally
			}
			next, stop := iter.Pull2(partd.Values(func(yield func(partd.Chunk, error) bool) {
				if yield(partd.Chunk{Key: "k", Data: []byte("value"), Last: last}, nil) && broken != nil {
					yield(partd.Chunk{}, broken)
				}
			}))
			defer stop()
			v, err, _ := next()
			if err != nil || v.Key != "k" {
				t.Fatalf("Values yields %v with the key %q, want k", err, v.Key)
			}
			if n, err := v.Read(make([]byte, 2)); n != 2 || err != nil {
				t.Fatalf("Read = %d, %v, want 2", n, err)
			}
			_, err, ok := next()
			if !ok || err == nil || err == io.EOF || err == io.ErrUnexpectedEOF || broken != nil && !errors.Is(err, broken) {
				t.Errorf("after the error %v (last chunk %v), Values yields %v, want the error and not the end", broken, last, err)
			}
			if _, err, ok := next(); ok {
				t.Errorf("after the error %v (last chunk %v), Values continues with %v", broken, last, err)
			}
		}
	}
}

// TestValuesEndWithTheirKey checks that a value cannot be read after the scan has reached another key or its end, or
// after the loop was left, and that a zero Value does not panic.
func TestValuesEndWithTheirKey(t *testing.T) {
	for _, count := range []int{1, 2, 3} { // with 3, the loop reaches the end of the scan
		values := []partd.Value{{}}
		for v, err := range partd.Values(func(yield func(partd.Chunk, error) bool) {
			_ = yield(partd.Chunk{Key: "a", Data: []byte("1")}, nil) && yield(partd.Chunk{Key: "a", Data: []byte("2"), Last: true}, nil) &&
				yield(partd.Chunk{Key: "b", Data: []byte("3"), Last: true}, nil)
		}) {
			must.Do(t, err)
			if values = append(values, v); len(values) > count {
				break
			}
		}
		if len(values) != 1+min(count, 2) {
			t.Fatalf("Values yields %d values, want %d", len(values)-1, min(count, 2))
		}
		for _, v := range values {
			if n, err := v.Read(make([]byte, 8)); n != 0 || err == nil || err == io.EOF {
				t.Errorf("Read of key %q after its scan = %d, %v, want an error", v.Key, n, err)
			}
		}
	}
}
