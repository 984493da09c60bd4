package pull

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/files/content"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// versionReader reads table versions from the node's directory. It first fetches files that are missing or damaged.
type versionReader struct {
	*env
	client *client
	reg    *registry
}

// version is a record with its manifest.
type version struct {
	record
	*manifest // nil if the table does not exist
}

// fetchVersion fetches the files of a version that have rows in [from, to) and are missing from the node's directory.
func (v *versionReader) fetchVersion(ctx context.Context, r record, from, to time.Time) (fetched version, times interval, err error) {
	fetched.record = r
	fetched.manifest, err = v.manifest(ctx, r)
	if err != nil {
		return fetched, times, err
	}
	times = fetched.interval(from, to)
	var missing []content.HashNamed
	for _, f := range fetched.files {
		if times.overlaps(f) && !v.disk.touch(f.HashNamed) {
			missing = append(missing, f.HashNamed)
		}
	}
	return fetched, times, parallel.Each(ctx, slices.Values(missing), 0, func(ctx context.Context, f content.HashNamed) error {
		return v.client.fetch(ctx, f, v.reg.peers(r)) // peers returns the nodes in a new random order for each file
	})
}

// manifest returns a version's manifest, which it fetches if the node's directory lacks it.
func (v *versionReader) manifest(ctx context.Context, r record) (*manifest, error) {
	b, err := readAll(v.open(ctx, r, r.manifestFile()))
	if err != nil {
		return nil, err
	}
	return readManifest(b, r)
}

// rows yields a file's rows with times in an interval. It checks the file's hash first.
func (v *versionReader) rows(ctx context.Context, m *manifest, r record, f dataFile, times interval) batches.Seq {
	return func(yield func(arrow.RecordBatch, error) bool) {
		file, err := v.open(ctx, r, f.HashNamed)
		if err != nil {
			yield(nil, err)
			return
		}
		defer file.Close() //nolint:errcheck // it was only read
		in := &formats.Input{Name: file.Name(), File: file, Format: formats.Parquet()}
		reader, err := in.Read(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		defer reader.Release()
		batches.Each(reader, func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
			converted, err := schema.ConvertNamed(b, m.schema)
			if err != nil {
				return nil, err
			}
			return times.rows(converted, m.time)
		})(yield)
	}
}

// open opens a file of version r. It first fetches the file if it is missing or damaged.
func (v *versionReader) open(ctx context.Context, r record, f content.HashNamed) (*os.File, error) {
	file, err := v.disk.Open(f)
	if err != nil {
		err = v.refetch(ctx, r, f, err)
		if err == nil {
			file, err = v.disk.Open(f)
		}
	}
	return file, err
}

// refetch fetches a file that could not be opened because of cause.
func (v *versionReader) refetch(ctx context.Context, r record, f content.HashNamed, cause error) error {
	return v.replace(r.Name, f, cause, func() error { return v.client.fetch(ctx, f, v.reg.peers(r)) })
}

// replace calls fetch for a missing or damaged file. cause is the error from opening the
// file. If the file is neither missing nor damaged, replace returns cause.
func (v *versionReader) replace(table string, f content.HashNamed, cause error, fetch func() error) error {
	damaged := errors.Is(cause, content.ErrDamaged)
	if !damaged && !errors.Is(cause, fs.ErrNotExist) {
		return cause
	}
	if damaged {
		v.log.Warn("pull: the node fetches a damaged file again", "table", table, "file", f.Hash)
		// If the fetch fails, a missing file is better than a damaged one.
		if err := os.Remove(v.disk.Path(f.Hash)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	err := fetch()
	if err != nil && damaged {
		err = fmt.Errorf("%s: %w: %w", f.Hash, cause, err)
	}
	return err
}
