package content

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/parallel"
)

// Copy copies the data files of a table of another store, as far as they are not here.
type Copy struct {
	Sent  int   // files
	Bytes int64 // in them

	from, to *icecat.Catalog
	read     bool // files that are here are of use only if they are intact

	mu    sync.Mutex
	at    map[string]string // where the file of a location of theirs is here
	taken map[string]bool   // these places: each is of one file, since equal ones are there several times
}

// NewCopy returns a copy to a store. With read, files that it has are used only if they are intact.
func NewCopy(from, to *icecat.Catalog, read bool) *Copy {
	return &Copy{from: from, to: to, read: read, at: map[string]string{}, taken: map[string]bool{}}
}

// At returns where the file of a location of theirs is here.
func (c *Copy) At(location string) string { return c.at[location] }

// Entries calls f with the files of a version, manifest by manifest.
func (c *Copy) Entries(s *table.Snapshot, f func(iceberg.ManifestFile, []iceberg.ManifestEntry) error) error {
	io := c.from.NewIO()
	all, err := s.Manifests(io)
	for _, m := range all {
		var entries []iceberg.ManifestEntry
		if entries, err = Entries(io, m); err == nil && len(entries) > 0 {
			if m.ManifestContent() != iceberg.ManifestContentData {
				return errors.New("another program deleted rows by files of their own: let it rewrite the table's data files first")
			}
			err = f(m, entries)
		}
		if err != nil {
			return err
		}
	}
	return err
}

// Files copies the data files of a version that are not there yet. Each is noted at once, so
// that it need not be copied again if we are stopped.
func (c *Copy) Files(ctx context.Context, s *table.Snapshot, dir string) error {
	return c.Entries(s, func(_ iceberg.ManifestFile, entries []iceberg.ManifestEntry) error {
		return parallel.Each(ctx, slices.Values(entries), 0, func(ctx context.Context, e iceberg.ManifestEntry) error {
			if err := c.copyFile(ctx, e.DataFile().FilePath(), dir); err != nil {
				return fmt.Errorf("copy %s: %w", e.DataFile().FilePath(), err)
			}
			return nil
		})
	})
}

func (c *Copy) copyFile(ctx context.Context, from, dir string) error {
	theirs, ours := c.from.NewIO(), c.to.NewIO()
	content, known, err := c.from.FileAt(ctx, from)
	if err == nil && !known { // others wrote it
		content, err = Of(c.from, from)
	}
	if err != nil {
		return err
	}
	if at, err := c.find(ctx, content); err != nil {
		return err
	} else if at != "" {
		if still, err := c.to.Wanted(ctx, at); err != nil || still {
			return err
		}
	}
	f, err := theirs.Open(from)
	if err != nil {
		return err
	}
	content.Path = c.take(from, dir)
	if err := errors.Join(ours.Fill(content, f), f.Close()); err != nil {
		return err
	}
	c.mu.Lock()
	c.Sent++
	c.Bytes += content.Size
	c.mu.Unlock()
	return c.to.NoteFiles(ctx, ours)
}

// find looks for the content of a file, under the same name since names tell the order
// of rows.
func (c *Copy) find(ctx context.Context, content icecat.WrittenFile) (string, error) {
	like, err := c.to.FilesLike(ctx, content)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, loc := range like {
		if !c.taken[loc] && path.Base(loc) == path.Base(content.Path) && c.fits(loc, content) == nil {
			c.at[content.Path], c.taken[loc] = loc, true
			return loc, nil
		}
	}
	return "", nil
}

// fits returns why a file that is here is of no use.
func (c *Copy) fits(location string, content icecat.WrittenFile) error {
	if c.read {
		return Check(c.to, location, content)
	}
	return checkSize(c.to, location, content.Size)
}

// take chooses where a file goes.
func (c *Copy) take(from, dir string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	loc := dir + "/" + path.Base(from)
	for n := 1; c.taken[loc]; n++ {
		loc = fmt.Sprintf("%s/%d/%s", dir, n, path.Base(from))
	}
	c.at[from], c.taken[loc] = loc, true
	return loc
}
