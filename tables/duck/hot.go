//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/go-partd/partd/tables"
)

const (
	hotReads       = 8       // number of statements that read texts of a data file before the file gets a copy
	retryReads     = -1000   // their initial number after a file could not be unpacked
	minHotBytes    = 4 << 20 // of a data file
	maxCounted     = 1024    // number of data files whose statements are counted
	unpackedPeriod = time.Minute
)

// hotFiles keeps unpacked copies of data files that many statements read, because DuckDB takes up to half of a
// statement's time to decompress texts. Unpacking takes about as long as three statements that read all texts of the
// file. A copy is removed when no statement has read it for an unpackedPeriod or two.
type hotFiles struct {
	scratch
	minBytes int64           // size of the data files that can be hot
	ctx      context.Context // canceled by close
	cancel   context.CancelFunc
	running  sync.WaitGroup

	// scratch.mu guards the fields below.
	reads     map[string]int        // number of statements that read texts of a data file without a copy, by the file's mark
	isWriting bool                  // one copy is written at a time
	timer     *time.Timer           // calls removeUnused; nil without copies
	used      map[*scratchFile]bool // copies used since the last call of removeUnused
}

func newHotFiles(dir string, maxBytes int64) *hotFiles {
	h := &hotFiles{scratch: scratch{dir: dir, prefix: "unpacked", maxBytes: maxBytes}, minBytes: minHotBytes, reads: map[string]int{}, used: map[*scratchFile]bool{}}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// hotMark identifies the content of a data file, because a repair can replace the file.
func hotMark(path string, info fs.FileInfo) string {
	return fmt.Sprintf("%s %d %d", path, info.Size(), info.ModTime().UnixNano())
}

// use returns the copy of a data file, or nil if there is none. The caller must release the copy. If the file is hot,
// use starts to write a copy in the background.
func (h *hotFiles) use(f tables.PlannedFile, readsTexts bool) *scratchFile {
	info, err := os.Stat(f.Path)
	if f.Bytes < h.minBytes || err != nil {
		return nil
	}
	mark := hotMark(f.Path, info)
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.IndexFunc(h.files, func(c *scratchFile) bool { return c.mark == mark }); i >= 0 {
		c := h.files[i]
		if _, err := os.Stat(c.path); err == nil {
			h.files = append(slices.Delete(h.files, i, i+1), c)
			c.refs++
			h.used[c] = true
			return c
		}
		c.mark = "" // somebody has removed the copy
		h.sweep()
	}
	if !readsTexts || h.ctx.Err() != nil {
		return nil
	}
	if len(h.reads) >= maxCounted {
		clear(h.reads)
	}
	if h.reads[mark]++; h.reads[mark] >= hotReads && !h.isWriting {
		h.isWriting = true
		h.running.Go(func() { h.write(f.Path, mark) })
	}
	return nil
}

// write writes a copy of the data file with a mark. Its errors do not matter, because statements need no copy.
func (h *hotFiles) write(path, mark string) {
	c := h.newFile(path, mark)
	err := c.unpackFrom(h.ctx, path, h.maxBytes/2)
	h.mu.Lock()
	h.isWriting = false
	if err == nil {
		h.files = append(h.files, c)
		h.used[c] = true
		delete(h.reads, mark)
		if h.timer == nil {
			h.timer = time.AfterFunc(unpackedPeriod, h.removeUnused)
		}
	} else {
		c.mark = ""
		h.reads[mark] = retryReads
	}
	h.mu.Unlock()
	c.release()
}

func (f *scratchFile) unpackFrom(ctx context.Context, path string, maxBytes int64) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // the file was only read
	info, err := in.Stat()
	if err != nil || hotMark(path, info) != f.mark {
		return cmp.Or(err, fs.ErrNotExist) // the file was replaced
	}
	if err := f.create(); err != nil {
		return err
	}
	err = unpack(ctx, in, &f.out, maxBytes)
	return errors.Join(err, f.out.Close())
}

// removeUnused removes the copies that no statement has read since its last call.
func (h *hotFiles) removeUnused() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.files {
		if !h.used[c] && c.refs == 0 {
			c.mark = ""
		}
	}
	clear(h.used)
	h.sweep()
	h.timer = nil
	if len(h.files) > 0 && h.ctx.Err() == nil {
		h.timer = time.AfterFunc(unpackedPeriod, h.removeUnused)
	}
}

// close stops writing. The engine removes the copies with its directory.
func (h *hotFiles) close() {
	h.cancel()
	h.running.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.timer != nil {
		h.timer.Stop()
	}
	for _, c := range h.files {
		c.mark = ""
	}
	h.sweep() // gives back the quota
}
