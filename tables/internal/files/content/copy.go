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

	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
)

// Copy copies a table's data files from one store to another, except files that the target already has.
type Copy struct {
	Sent  int   // number of copied files
	Bytes int64 // total size of the copied files

	from, to       *icecat.Catalog
	verifyExisting bool // whether to verify the content of existing files in the target before using them

	mu        sync.Mutex
	locations map[string]string // location of the copy in the target, by location in the source
	inUse     map[string]bool   // locations of copies; two source files must not share a copy
}

// NewCopy returns a Copy from one store to another. verifyExisting says whether to verify the content of files that the
// target already has. If it is false, only their sizes are checked.
func NewCopy(from, to *icecat.Catalog, verifyExisting bool) *Copy {
	return &Copy{from: from, to: to, verifyExisting: verifyExisting, locations: map[string]string{}, inUse: map[string]bool{}}
}

// Location returns the location, in the target, of a source file's copy.
func (c *Copy) Location(location string) string { return c.locations[location] }

// ErrDeleteFiles is the error for a table that cannot be copied because of delete files.
var ErrDeleteFiles = errors.New("rows were deleted by delete files: first compact the table, or rewrite its data files with the program that deleted the rows")

// Entries calls f for each non-empty manifest of a snapshot, with the manifest's entries.
func (c *Copy) Entries(s *table.Snapshot, f func(iceberg.ManifestFile, []iceberg.ManifestEntry) error) error {
	fileIO := c.from.NewIO()
	all, err := s.Manifests(fileIO)
	for _, m := range all {
		var entries []iceberg.ManifestEntry
		entries, err = Entries(fileIO, m)
		if err == nil && len(entries) > 0 {
			if m.ManifestContent() != iceberg.ManifestContentData {
				return ErrDeleteFiles
			}
			err = f(m, entries)
		}
		if err != nil {
			return err
		}
	}
	return err
}

// Files copies the data files of a snapshot to the directory dir, except files that the target already has.
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
	source, dest := c.from.NewIO(), c.to.NewIO()
	written, recorded, err := c.from.FileAt(ctx, from)
	if err == nil && !recorded { // another program wrote the file
		written, err = EntryOf(ctx, c.from, from)
	}
	if err != nil {
		return err
	}
	existing, usable, err := c.findExisting(ctx, written)
	if err == nil && existing != "" {
		var isProtected bool
		isProtected, err = c.to.Protect(ctx, existing)
		if isProtected && usable {
			return err
		} else if !isProtected {
			existing = ""
		}
	}
	if err != nil {
		return err
	}
	f, err := source.Open(from)
	if err != nil {
		return err
	}
	write := dest.WriteVerified
	written.Path = existing
	if existing == "" {
		written.Path = c.chooseLocation(from, dir)
	} else {
		write = c.to.NewIO().Replace // dest must not record Replace's temporary file
	}
	if err := errors.Join(write(written, &meteredReader{f, ctx}), f.Close()); err != nil {
		return err
	}
	c.mu.Lock()
	c.Sent++
	c.Bytes += written.Size
	c.mu.Unlock()
	return c.to.RecordFiles(ctx, dest)
}

// findExisting returns the location of a file in the target that was written with the same content and name as written,
// or "" if every such file is already in use. If all such files are damaged or missing, findExisting returns one of
// them, which is not usable, so that a copy can replace it. The name must be the same because the files' names
// determine the order of rows.
func (c *Copy) findExisting(ctx context.Context, written icecat.WrittenFile) (location string, usable bool, err error) {
	candidates, err := c.to.FilesLike(ctx, written)
	if err != nil {
		return "", false, err
	}
	for _, candidate := range candidates {
		if path.Base(candidate) != path.Base(written.Path) || !c.claim(written.Path, candidate) {
			continue
		}
		location, usable = candidate, c.isUsable(ctx, candidate, written)
		if usable {
			break
		}
	}
	return location, usable, nil
}

// claim makes location the location of source's copy. It returns false if the location is already in use.
func (c *Copy) claim(source, location string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inUse[location] {
		return false
	}
	c.locations[source], c.inUse[location] = location, true
	return true
}

func (c *Copy) isUsable(ctx context.Context, location string, written icecat.WrittenFile) bool {
	if c.verifyExisting {
		return Check(ctx, c.to, location, written) == nil
	}
	return hasSize(c.to, location, written.Size)
}

// IsComplete reports whether the files of a table's newest version exist with their recorded sizes. location is the
// location of the table's metadata. IsComplete does not read data files.
func IsComplete(ctx context.Context, c *icecat.Catalog, namespace, name, location string) (bool, error) {
	t, err := c.LoadAt(ctx, namespace, name, location)
	if err != nil {
		return false, ignoreDamage(err)
	}
	lists := []string{location}
	s := t.CurrentSnapshot()
	if s != nil {
		lists = append(lists, s.ManifestList)
	}
	for _, file := range lists {
		recorded, _, err := c.FileAt(ctx, file)
		if err != nil || !hasSize(c, file, recorded.Size) {
			return false, err
		}
	}
	if s == nil {
		return true, nil
	}
	fileIO := c.NewIO()
	manifests, err := s.Manifests(fileIO)
	for _, m := range manifests {
		var entries []iceberg.ManifestEntry
		if err == nil {
			entries, err = Entries(fileIO, m)
		}
		if err != nil || !hasSize(c, m.FilePath(), m.Length()) {
			return false, ignoreDamage(err)
		}
		err = parallel.Each(ctx, slices.Values(entries), 0, func(_ context.Context, e iceberg.ManifestEntry) error {
			if !hasSize(c, e.DataFile().FilePath(), e.DataFile().FileSizeBytes()) {
				return icecat.ErrContent
			}
			return nil
		})
	}
	return err == nil, ignoreDamage(err)
}

func hasSize(c *icecat.Catalog, location string, expected int64) bool {
	size, err := c.Size(location)
	return err == nil && size == expected
}

// ignoreDamage returns nil if err means that a file is damaged or missing.
func ignoreDamage(err error) error {
	if errors.Is(err, icecat.ErrContent) {
		return nil
	}
	return err
}

// chooseLocation returns an unused location in dir for the copy of the file source.
func (c *Copy) chooseLocation(source, dir string) string {
	loc := dir + "/" + path.Base(source)
	for n := 1; !c.claim(source, loc); n++ {
		loc = fmt.Sprintf("%s/%d/%s", dir, n, path.Base(source))
	}
	return loc
}
