package tables

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"

	"github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/parallel"
)

// copiedFiles are the data files of a table of another store, as they are in this one.
type copiedFiles struct {
	from, to *Store
	read     bool    // files that are here are of use only if they are intact
	base     *string // the metadata that the table must have here, "" for none; nil is any

	mu    sync.Mutex
	at    map[string]string // where the file of a location of theirs is here
	taken map[string]bool   // these places: each is of one file, since equal ones are there several times
	sent  int               // files
	bytes int64             // in them
}

// entries calls f with the files of a version, manifest by manifest.
func (c *copiedFiles) entries(s *table.Snapshot, f func(iceberg.ManifestFile, []iceberg.ManifestEntry) error) error {
	io := c.from.cat.NewIO()
	all, err := s.Manifests(io)
	for _, m := range all {
		var entries []iceberg.ManifestEntry
		if entries, err = entriesOf(io, m); err == nil && len(entries) > 0 {
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

// entriesOf returns the files that a manifest has.
func entriesOf(io iceio.IO, m iceberg.ManifestFile) (all []iceberg.ManifestEntry, err error) {
	for e, err := range m.Entries(io, true) {
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// copy copies the files of a version that are not there yet. Each is noted at once, so
// that it need not be copied again if we are stopped.
func (c *copiedFiles) copy(ctx context.Context, s *table.Snapshot, dir string) error {
	return c.entries(s, func(_ iceberg.ManifestFile, entries []iceberg.ManifestEntry) error {
		return parallel.Each(ctx, slices.Values(entries), 0, func(ctx context.Context, e iceberg.ManifestEntry) error {
			if err := c.copyFile(ctx, e.DataFile().FilePath(), dir); err != nil {
				return fmt.Errorf("copy %s: %w", e.DataFile().FilePath(), err)
			}
			return nil
		})
	})
}

func (c *copiedFiles) copyFile(ctx context.Context, from, dir string) error {
	theirs, ours := c.from.cat.NewIO(), c.to.cat.NewIO()
	content, known, err := c.from.cat.FileAt(ctx, from)
	if err == nil && !known { // others wrote it
		content, err = contentOf(theirs, from)
	}
	if err != nil {
		return err
	}
	if at, err := c.find(ctx, content); err != nil {
		return err
	} else if at != "" {
		if still, err := c.to.cat.Wanted(ctx, at); err != nil || still {
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
	c.sent++
	c.bytes += content.Size
	c.mu.Unlock()
	return c.to.cat.NoteFiles(ctx, ours)
}

// find looks for the content of a file, under the same name since names tell the order
// of rows.
func (c *copiedFiles) find(ctx context.Context, content icecat.WrittenFile) (string, error) {
	like, err := c.to.cat.FilesLike(ctx, content)
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
func (c *copiedFiles) fits(location string, content icecat.WrittenFile) error {
	if c.read {
		return c.to.intact(location, content)
	}
	return c.to.sized(location, content.Size)
}

// take chooses where a file goes.
func (c *copiedFiles) take(from, dir string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	loc := dir + "/" + path.Base(from)
	for n := 1; c.taken[loc]; n++ {
		loc = fmt.Sprintf("%s/%d/%s", dir, n, path.Base(from))
	}
	c.at[from], c.taken[loc] = loc, true
	return loc
}

// manifests writes the manifests of a version, with the files where they are here, and
// returns how many rows they have. Each file keeps its sequence number, and so its place.
func (c *copiedFiles) manifests(st *staging, now table.Metadata, had *table.Snapshot, id int64) (all []iceberg.ManifestFile, rows int64, err error) {
	err = c.entries(had, func(m iceberg.ManifestFile, entries []iceberg.ManifestEntry) error {
		spec := now.PartitionSpecByID(int(m.PartitionSpecID()))
		if spec == nil {
			return fmt.Errorf("manifest %s: the table has no partition spec %d", m.FilePath(), m.PartitionSpecID())
		}
		loc := fmt.Sprintf("%s/metadata/%s-m0.avro", now.Location(), uuid.NewString())
		out, err := st.io.Create(loc)
		if err != nil {
			return err
		}
		w, err := iceberg.NewManifestWriter(now.Version(), out, *spec, now.CurrentSchema(), id)
		for i := 0; i < len(entries) && err == nil; i++ {
			e, f := entries[i], entries[i].DataFile()
			var b *iceberg.DataFileBuilder
			if b, err = rebuild(*spec, f, c.at[f.FilePath()]); err == nil {
				if first := f.FirstRowID(); first != nil {
					b.FirstRowID(*first)
				}
				seq := e.SequenceNum()
				err = w.Existing(iceberg.NewManifestEntry(iceberg.EntryStatusEXISTING, &id, &seq, e.FileSequenceNum(), b.Build()))
				rows += f.Count()
			}
		}
		if err == nil {
			err = w.Close()
		}
		if err = errors.Join(err, out.Close()); err != nil {
			return err
		}
		written := st.io.Written()
		listed, err := w.ToManifestFile(loc, written[len(written)-1].Size)
		all = append(all, listed)
		return err
	})
	return all, rows, err
}
