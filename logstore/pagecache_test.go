package logstore

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// cacheFS is a file system with a simulated page cache, which notes what the store does with it.
type cacheFS struct {
	vfs.FS
	mu         sync.Mutex
	evicting   bool // the system has removed a tenth of every file from the cache
	touched    map[string]map[int64]bool
	partial    []string // writes that would read a page from the disk
	prefetches int
	hints      map[string]map[int64]bool // offsets of the pages with a hint, by hint and file
}

func (c *cacheFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := c.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &cacheFile{f, c}, nil
}

type cacheFile struct {
	vfs.File
	c *cacheFS
}

// WriteAt notes a write that is the first to a page and ends before the page's end.
func (f *cacheFile) WriteAt(b []byte, off int64) (int, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	pages := f.c.touched[f.Name()]
	if pages == nil || off == 0 { // each use of a write-ahead file begins with its header
		pages = map[int64]bool{0: true}
		f.c.touched[f.Name()] = pages
	}
	end := off + int64(len(b))
	for p := off / pageLen; p*pageLen < end; p++ {
		if !pages[p] && end < (p+1)*pageLen {
			f.c.partial = append(f.c.partial, fmt.Sprintf("%s: [%d, %d)", f.Name(), off, end))
		}
		pages[p] = true
	}
	return f.File.WriteAt(b, off)
}

func (f *cacheFile) note(hint string, off, n int64) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	info, err := f.Info()
	if err != nil {
		panic(err)
	}
	key := hint + " " + f.Name()
	if f.c.hints[key] == nil {
		f.c.hints[key] = map[int64]bool{}
	}
	for p := off / pageLen; p*pageLen < min(off+min(n, info.Size), info.Size); p++ {
		f.c.hints[key][p] = true
	}
}

func (f *cacheFile) Prefetch(off, n int64) {
	f.note("prefetch", off, n)
	f.c.prefetches++
}
func (f *cacheFile) WriteBack(off, n int64) { f.note("write back", off, n) }
func (f *cacheFile) Evict(off, n int64)     { f.note("evict", off, n) }

func (f *cacheFile) Evicted(_, n int64) int64 {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if f.c.evicting {
		return n / 10
	}
	return 0
}

// pages returns the number of pages of segments with a hint, and their files' pages.
func (c *cacheFS) pages(s *Store, hint string) (n, all int64) {
	for _, f := range s.catalog.files.files() {
		if f.Kind == segment.SegmentFile {
			n += int64(len(c.hints[hint+" "+f.Path]))
			all += (f.end + pageLen - 1) / pageLen
		}
	}
	return n, all
}

func openCached(t *testing.T) (*Store, *cacheFS) {
	c := &cacheFS{FS: vfstest.NewMem(), touched: map[string]map[int64]bool{}, hints: map[string]map[int64]bool{}}
	s := openWith(t, "/store", &Options{Memory: MinMemory}, hooks{fs: c, tableBytes: 64 << 10, walStep: 64 << 10, minMerge: -1, reclaimSlack: -1})
	t.Cleanup(func() { s.Close() })
	return s, c
}

func appendPieces(t *testing.T, s *Store, n int) {
	t.Helper()
	for i := range n {
		piece := []byte(strings.Repeat("x", 100+i%1500))
		must.Do(t, s.Append(context.Background(), partd.Entry{Key: fmt.Sprint("k", i%50), Value: piece}))
	}
	must.Do(t, s.Flush(context.Background()))
}

// TestScarceCache checks that a store writes and evicts its segments at once after the system has
// removed a part of the recent ones from the page cache, and not before or forever.
func TestScarceCache(t *testing.T) {
	s, c := openCached(t)
	fill := func(tables int) {
		const piecesPerTable = 120 // more than needed
		appendPieces(t, s, tables*piecesPerTable)
		s.sealer.rotate.Store(true) // begin another file
	}
	fill(probeTables)
	_, old := c.pages(s, "evict")
	fill(4)
	for _, hint := range []string{"write back", "evict"} {
		if n, _ := c.pages(s, hint); n != 0 {
			t.Errorf("with enough cache, the store did %q for %d pages", hint, n)
		}
	}
	_, before := c.pages(s, "evict")
	c.evicting = true
	fill(4)
	written, all := c.pages(s, "write back")
	if written < all-before {
		t.Errorf("%d pages were written back, want at least %d", written, all-before)
	}
	if n, _ := c.pages(s, "evict"); n < (all-old)*9/10 || n > all-old*3/4 {
		t.Errorf("%d pages of %d were evicted, want those after the first %d", n, all, old)
	}
	must.Do(t, s.Drop(t.Context()))
	c.evicting = false
	fill(4)
	if n, _ := c.pages(s, "write back"); n != 0 {
		t.Errorf("after Drop, which empties the cache, %d pages were written back", n)
	}
	c.evicting = true
	fill(4)
	if n, _ := c.pages(s, "write back"); n == 0 {
		t.Error("after Drop, the store did not notice that the cache is small")
	}
	c.evicting = false
	fill(evictTables)
	written, _ = c.pages(s, "write back")
	fill(4)
	if n, _ := c.pages(s, "write back"); n != written {
		t.Errorf("after the cache had grown, %d pages were written back", n-written)
	}
}

// TestEvictingWriter checks that each write is written to the disk at once, and that the bytes before it leave the cache.
func TestEvictingWriter(t *testing.T) {
	c := &cacheFS{FS: vfstest.NewMem(), touched: map[string]map[int64]bool{}, hints: map[string]map[int64]bool{}}
	f := must.Get(c.OpenFile("/f", os.O_RDWR|os.O_CREATE, 0o666))(t)
	defer f.Close()
	w := evictingWriter{f, f.(vfs.Cacher)}
	piece := make([]byte, evictLen/2)
	for i := range 4 {
		must.Get(w.WriteAt(piece, int64(i*len(piece))))(t)
		if written, evicted := len(c.hints["write back /f"]), len(c.hints["evict /f"]); written != (i+1)*len(piece)/pageLen || evicted != i*len(piece)/pageLen {
			t.Errorf("after %d writes of %d pages, %d were written back and %d evicted, want all and those of earlier writes", i+1, len(piece)/pageLen, written, evicted)
		}
	}
}

// TestScanPrefetches checks that a scan prefetches what it reads, with few requests even if other
// scans use the memory.
func TestScanPrefetches(t *testing.T) {
	s, c := openCached(t)
	appendPieces(t, s, 1000)
	s.scans.memory.Add(2 * s.scans.readBytes)
	defer s.scans.memory.Add(-2 * s.scans.readBytes)
	for _, err := range s.Scan(context.Background()) {
		must.Do(t, err)
	}
	if n, all := c.pages(s, "prefetch"); n < all*9/10 { // footers and hot runs are not prefetched
		t.Errorf("%d of %d pages were prefetched", n, all)
	}
	if n := s.SegmentCount(); c.prefetches > n {
		t.Errorf("the scan made %d requests for %d segments", c.prefetches, n)
	}
}

// TestRecordsFillPages checks that no record is the first write to a page that it only partly fills.
// The kernel would have to read the rest of such a page of a reused file.
func TestRecordsFillPages(t *testing.T) {
	s, c := openCached(t)
	appendPieces(t, s, 1000)
	for n := range 200 { // some files have an end record that begins on one page and ends on the next
		s.sealer.rotate.Store(true) // begin another file
		e := partd.Entry{Key: "k", Value: make([]byte, pageLen-200+n)}
		must.Do(t, s.Append(t.Context(), e))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.partial {
		if strings.Contains(w, "wal-") {
			t.Errorf("the write of %s fills a page only partly", w)
		}
	}
}
