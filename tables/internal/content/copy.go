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

// Copy copies the data files of another store's table that this store does not have.
type Copy struct {
	Sent  int   // number of files
	Bytes int64 // bytes of those files

	from, to *icecat.Catalog
	read     bool // read existing files, and use them only if they are intact

	mu    sync.Mutex
	at    map[string]string // from locations in the other store to locations in this one
	taken map[string]bool   // locations in use, because each of several equal files is used only once
}

// NewCopy returns a copy to a store. If read is set, it reads existing files, and uses only intact
// ones.
func NewCopy(from, to *icecat.Catalog, read bool) *Copy {
	return &Copy{from: from, to: to, read: read, at: map[string]string{}, taken: map[string]bool{}}
}

// At returns the location in this store of a file of the other store.
func (c *Copy) At(location string) string { return c.at[location] }

// Entries calls f for each manifest of a version, with the manifest's entries.
func (c *Copy) Entries(s *table.Snapshot, f func(iceberg.ManifestFile, []iceberg.ManifestEntry) error) error {
	io := c.from.NewIO()
	all, err := s.Manifests(io)
	for _, m := range all {
		var entries []iceberg.ManifestEntry
		if entries, err = Entries(io, m); err == nil && len(entries) > 0 {
			if m.ManifestContent() != iceberg.ManifestContentData {
				return errors.New("another program deleted rows with delete files: rewrite the table's data files with it first")
			}
			err = f(m, entries)
		}
		if err != nil {
			return err
		}
	}
	return err
}

// Files copies the missing data files of a version. It records each copy at once, so that an
// interrupted copy can resume.
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
	if err == nil && !known { // another program wrote it
		content, err = EntryOf(c.from, from)
	}
	if err != nil {
		return err
	}
	if at, err := c.find(ctx, content); err != nil {
		return err
	} else if at != "" {
		if still, err := c.to.Protect(ctx, at); err != nil || still {
			return err
		}
	}
	f, err := theirs.Open(from)
	if err != nil {
		return err
	}
	content.Path = c.take(from, dir)
	if err := errors.Join(ours.WriteVerified(content, f), f.Close()); err != nil {
		return err
	}
	c.mu.Lock()
	c.Sent++
	c.Bytes += content.Size
	c.mu.Unlock()
	return c.to.NoteFiles(ctx, ours)
}

// find returns the location of an existing file with the same content and name, or "". Names must
// match because they determine the order of rows.
func (c *Copy) find(ctx context.Context, content icecat.WrittenFile) (string, error) {
	like, err := c.to.FilesLike(ctx, content)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, loc := range like {
		if !c.taken[loc] && path.Base(loc) == path.Base(content.Path) && c.checkUsable(loc, content) == nil {
			c.at[content.Path], c.taken[loc] = loc, true
			return loc, nil
		}
	}
	return "", nil
}

// checkUsable returns an error if an existing file cannot be used.
func (c *Copy) checkUsable(location string, content icecat.WrittenFile) error {
	if c.read {
		return Check(c.to, location, content)
	}
	return checkSize(c.to, location, content.Size)
}

// take chooses the location of a copied file.
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
