package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/parallel"
)

// Finding is what Verify says of a file.
type Finding struct {
	State   FileState `json:"state"`
	Bucket  string    `json:"bucket"`
	Table   string    `json:"table"`
	File    string    `json:"file"` // its path
	Problem string    `json:"problem"`
}

// FileState is what becomes of a file that is not in order.
type FileState string

// The states of a Finding.
const (
	Damaged    FileState = "damaged"    // or missing, or not what the table's metadata says of it
	Repaired   FileState = "repaired"   // it was damaged
	Unverified FileState = "unverified" // another program wrote it, so no checksum is known; it could be read
)

// Result counts what was looked at.
type Result struct {
	Tables, Files                 int
	Bytes                         int64 // of the files with a checksum
	Damaged, Repaired, Unverified int
}

// Verifier compares the files of tables with what the catalog has of them.
type Verifier struct {
	Catalog *icecat.Catalog
	Result  Result

	// Repair has good copies of files; nil: nobody has. What it has of a damaged or missing
	// file takes its place, in one step, if it is what the catalog says.
	Repair func(ctx context.Context, of Table, f icecat.WrittenFile) (io.ReadCloser, error)
	Found  func(Finding) // is told of each file that is not in order, one at a time; nil: nobody is

	mu   sync.Mutex
	seen map[xxh3.Uint128]struct{}
	io   *icecat.FileIO
}

// NewVerifier returns a verifier of the tables of a catalog, which has seen nothing yet.
func NewVerifier(c *icecat.Catalog) *Verifier {
	return &Verifier{Catalog: c, io: c.NewIO(), seen: map[xxh3.Uint128]struct{}{}}
}

// Table is a table's name.
type Table struct{ Bucket, Name string }

// file looks at a file that was not looked at before, as the key says, and reports
// whether it is in order. Read says what else is wrong with it.
func (v *Verifier) file(ctx context.Context, of Table, key, location string, read func() error) (bool, error) {
	hash := xxh3.HashString128(key)
	v.mu.Lock()
	_, again := v.seen[hash]
	v.seen[hash] = struct{}{}
	v.mu.Unlock()
	if again {
		return false, nil
	}
	known, has, err := v.Catalog.FileAt(ctx, location)
	if err != nil {
		return false, err
	}
	look := func() (whole, problem error) {
		v.Catalog.Forget(location)
		if has {
			whole = Check(v.Catalog, location, known)
		}
		if whole == nil {
			problem = cause(icecat.Safely(read))
		}
		return whole, problem
	}
	whole, problem := look()
	found := Finding{State: Damaged, Bucket: of.Bucket, Table: of.Name, File: location}
	if whole != nil {
		found.Problem = whole.Error()
		if v.Repair != nil {
			if failed := v.repair(ctx, of, known); failed != nil {
				found.Problem += "; not repaired: " + failed.Error()
			} else if whole, problem = look(); whole == nil && problem == nil {
				found.State = Repaired
			}
		}
	}
	switch {
	case ctx.Err() != nil: // which reads may have ended with
		return false, canceled.Err(ctx)
	case problem != nil:
		found.Problem = problem.Error()
		if !has && errors.Is(problem, fs.ErrNotExist) {
			found.Problem += "; the catalog has no checksum of it to know a copy by"
		}
	case whole == nil && found.State == Damaged && !has:
		found.State, found.Problem = Unverified, "another program wrote it: the catalog has no checksum"
	}
	v.Note(found, known.Size)
	return whole == nil && problem == nil, nil
}

// repair puts a good copy in place of a file.
func (v *Verifier) repair(ctx context.Context, of Table, f icecat.WrittenFile) error {
	r, err := v.Repair(ctx, of, f)
	if err != nil {
		return err
	}
	return errors.Join(v.Catalog.NewIO().Place(f, r), r.Close())
}

// Note counts a file, and tells of it if there is something to say.
func (v *Verifier) Note(f Finding, size int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.Result.Files++
	v.Result.Bytes += size
	if f.Problem == "" {
		return
	}
	switch f.State {
	case Damaged:
		v.Result.Damaged++
	case Repaired:
		v.Result.Repaired++
	case Unverified:
		v.Result.Unverified++
	}
	f.File = v.Catalog.Shown(f.File)
	if v.Found != nil {
		v.Found(f)
	}
}

// State looks at a table's metadata, and at all that it needs. It reports whether the
// metadata is that of the table itself, and in order.
func (v *Verifier) State(ctx context.Context, of Table, l icecat.State) (current bool, err error) {
	_ = v.Catalog.Heal(ctx, l.Location) // where it fails, the file is found to be damaged
	meta, ok, err := v.parsed(ctx, of, l.Location)
	if !ok || err != nil {
		return false, err
	}
	for old := range meta.PreviousFiles() {
		// Expire removes it, and of a table's first, which was never synced, nobody expects to find it.
		_, known, err := v.Catalog.FileAt(ctx, old.MetadataFile)
		if err == nil && known {
			_, _, err = v.parsed(ctx, of, old.MetadataFile)
		}
		if err != nil {
			return false, err
		}
	}
	versions := meta.Snapshots()
	if l.Pinned { // older versions were those of the table, and may have expired
		versions = nil
		if s := meta.CurrentSnapshot(); s != nil {
			versions = append(versions, *s)
		}
	}
	for _, s := range versions {
		if err := v.version(ctx, of, &s); err != nil {
			return false, err
		}
	}
	return !l.Pinned, nil
}

// parsed looks at a file of metadata, and returns it if it is in order.
func (v *Verifier) parsed(ctx context.Context, of Table, location string) (meta table.Metadata, ok bool, err error) {
	ok, err = v.file(ctx, of, location, location, func() error {
		b, err := v.io.ReadFile(location)
		if err == nil {
			meta, err = table.ParseMetadataBytes(b)
		}
		return err
	})
	return meta, ok, err
}

func (v *Verifier) version(ctx context.Context, of Table, s *table.Snapshot) error {
	var manifests []iceberg.ManifestFile
	ok, err := v.file(ctx, of, s.ManifestList, s.ManifestList, func() (err error) {
		manifests, err = s.Manifests(v.io)
		return err
	})
	if !ok || err != nil {
		return err
	}
	for _, m := range manifests {
		var entries []iceberg.ManifestEntry
		ok, err := v.file(ctx, of, m.FilePath(), m.FilePath(), func() (err error) {
			if entries, err = Entries(v.io, m); err != nil {
				return err
			}
			rows := int64(0)
			for _, e := range entries {
				rows += e.DataFile().Count()
			}
			if listed := m.AddedRows() + m.ExistingRows(); rows != listed {
				err = fmt.Errorf("its files have %d rows, and the list of manifests says %d", rows, listed)
			}
			return err
		})
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		err = parallel.Each(ctx, slices.Values(entries), 0, func(ctx context.Context, e iceberg.ManifestEntry) error {
			d := e.DataFile()
			// Manifests may say different things of one file.
			key := fmt.Sprint(d.FilePath(), d.FileSizeBytes(), d.Count(), d.LowerBoundValues(), d.UpperBoundValues())
			_, err := v.file(ctx, of, key, d.FilePath(), func() error { return v.data(d) })
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
