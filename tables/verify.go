package tables

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/parallel"
)

// VerifyOptions of Verify. The zero value, and nil, are all tables.
type VerifyOptions struct {
	Bucket *string  // only this bucket's tables
	Tables []string // only these of Bucket

	// Repair has good copies of files. What it has of a damaged or missing file takes
	// its place, in one step, if its size and checksum are those in the catalog.
	Repair Source

	// Found is told of each file that is not in order, one at a time.
	Found func(Finding)
}

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

// VerifyResult counts what was looked at.
type VerifyResult struct {
	Tables, Files                 int
	Bytes                         int64 // of the files with a checksum
	Damaged, Repaired, Unverified int
}

// Verify reads every file of tables, and compares it with the checksum in the catalog:
// metadata, also that of before as long as it is kept, lists of manifests, manifests and
// data, of all versions, and of those that snapshots have. Parquet files must have the
// rows, and columns within the bounds, that their manifest says. What is in the tail has
// checksums of its own; it is read when the store is opened.
//
// Damage is told to Found, and is no error.
func (s *Store) Verify(ctx context.Context, o *VerifyOptions) (VerifyResult, error) {
	v := &verifier{s: s, io: s.cat.NewIO(), seen: map[xxh3.Uint128]struct{}{}}
	if o != nil {
		v.o = *o
	}
	err := v.run(ctx)
	if err != nil {
		err = &OpError{Op: "verify", Dir: s.dir, Err: err}
	}
	return v.result, err
}

type verifier struct {
	s  *Store
	o  VerifyOptions
	io *icecat.FileIO

	mu     sync.Mutex
	seen   map[xxh3.Uint128]struct{}
	result VerifyResult
}

func (v *verifier) run(ctx context.Context) error {
	p, err := v.s.pin() // no file goes meanwhile
	if err != nil {
		return err
	}
	defer v.s.unpin(p)
	if v.o.Tables != nil && v.o.Bucket == nil {
		return errors.New("tables without a bucket: name it")
	}
	namespaces, err := v.s.chosen(ctx, v.o.Bucket)
	if err != nil {
		return err
	}
	for _, ns := range namespaces {
		states, err := v.s.cat.States(ctx, ns)
		if err != nil {
			return err
		}
		names := map[string]bool{}
		for _, l := range states {
			if v.o.Tables == nil || slices.Contains(v.o.Tables, l.Name) {
				names[l.Name] = true
				if err := v.metadata(ctx, tableName{ns, l.Name}, l); err != nil {
					return err
				}
			}
		}
		for _, name := range v.o.Tables {
			if !names[name] {
				return fmt.Errorf("table %q: %w", name, ErrNotFound)
			}
		}
		v.result.Tables += len(names)
	}
	return nil
}

// whole reports whether Verify finds nothing of a table damaged.
func (s *Store) whole(ctx context.Context, namespace, name, location string) (bool, error) {
	v := &verifier{s: s, io: s.cat.NewIO(), seen: map[xxh3.Uint128]struct{}{}}
	err := v.metadata(ctx, tableName{namespace, name}, icecat.State{Name: name, Location: location})
	return v.result.Damaged == 0, err
}

// chosen returns the namespaces of one bucket, which must exist, or of all.
func (s *Store) chosen(ctx context.Context, bucket *string) ([]string, error) {
	if bucket == nil {
		return s.cat.Namespaces(ctx)
	}
	ns := namespaceOf(*bucket)
	there, err := s.cat.HasNamespace(ctx, ns)
	if err == nil && !there {
		err = &OpError{Op: "look for", Bucket: *bucket, Err: &missing{"there is no such bucket"}}
	}
	return []string{ns}, err
}

// file looks at a file that was not looked at before, as the key says, and reports
// whether it is in order. Read says what else is wrong with it.
func (v *verifier) file(ctx context.Context, n tableName, key, location string, read func() error) (bool, error) {
	hash := xxh3.HashString128(key)
	v.mu.Lock()
	_, again := v.seen[hash]
	v.seen[hash] = struct{}{}
	v.mu.Unlock()
	if again {
		return false, nil
	}
	known, has, err := v.s.cat.FileAt(ctx, location)
	if err != nil {
		return false, err
	}
	look := func() (whole, problem error) {
		v.s.cat.Forget(location)
		if has {
			whole = v.s.intact(location, known)
		}
		if whole == nil {
			problem = cause(safely(read))
		}
		return whole, problem
	}
	whole, problem := look()
	found := Finding{State: Damaged, Bucket: bucketOf(n.Namespace), Table: n.Name, File: location}
	if whole != nil {
		found.Problem = whole.Error()
		if v.o.Repair != nil {
			if failed := v.s.replaceFile(ctx, fileOf(n, known), v.o.Repair); failed != nil {
				found.Problem += "; not repaired: " + failed.Error()
			} else if whole, problem = look(); whole == nil && problem == nil {
				found.State = Repaired
			}
		}
	}
	switch {
	case ctx.Err() != nil: // which reads may have ended with
		return false, ctx.Err()
	case problem != nil:
		found.Problem = problem.Error()
		if !has && errors.Is(problem, fs.ErrNotExist) {
			found.Problem += "; the catalog has no checksum of it to know a copy by"
		}
	case whole == nil && found.State == Damaged && !has:
		found.State, found.Problem = Unverified, "another program wrote it: the catalog has no checksum"
	}
	v.note(found, known)
	return whole == nil && problem == nil, nil
}

// note counts a file, and tells of it if there is something to say.
func (v *verifier) note(f Finding, known icecat.WrittenFile) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.result.Files++
	v.result.Bytes += known.Size
	if f.Problem == "" {
		return
	}
	switch f.State {
	case Damaged:
		v.result.Damaged++
	case Repaired:
		v.result.Repaired++
	case Unverified:
		v.result.Unverified++
	}
	f.File = v.s.cat.Shown(f.File)
	if v.o.Found != nil {
		v.o.Found(f)
	}
}

// safely returns what f says, or panics with: the libraries do where files lie.
func safely(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it cannot be read: %v", p)
		}
	}()
	return f()
}

// cause is what is wrong with a file, without what is to be done.
func cause(err error) error {
	if d := (*icecat.Damaged)(nil); errors.As(err, &d) {
		return d.Err
	}
	return err
}

// metadata looks at a table's metadata, and at all that it needs.
func (v *verifier) metadata(ctx context.Context, n tableName, l icecat.State) error {
	_ = v.s.cat.Heal(ctx, l.Location) // where it fails, the file is found to be damaged
	meta, ok, err := v.parsed(ctx, n, l.Location)
	if !ok || err != nil {
		return err
	}
	for old := range meta.PreviousFiles() {
		if err := v.older(ctx, n, old.MetadataFile); err != nil {
			return err
		}
	}
	if l.Pinned { // older versions were those of the table, and may have expired
		if s := meta.CurrentSnapshot(); s != nil {
			return v.version(ctx, n, s)
		}
		return nil
	}
	for _, s := range meta.Snapshots() {
		if err := v.version(ctx, n, &s); err != nil {
			return err
		}
	}
	return v.usable(ctx, n)
}

// parsed looks at a file of metadata, and returns it if it is in order.
func (v *verifier) parsed(ctx context.Context, n tableName, location string) (meta table.Metadata, ok bool, err error) {
	ok, err = v.file(ctx, n, location, location, func() error {
		b, err := v.io.ReadFile(location)
		if err == nil {
			meta, err = table.ParseMetadataBytes(b)
		}
		return err
	})
	return meta, ok, err
}

// older looks at metadata that a table had before, if the catalog still knows it: Expire
// removes it, and of a table's first, which was never synced, nobody expects to find it.
func (v *verifier) older(ctx context.Context, n tableName, location string) error {
	_, known, err := v.s.cat.FileAt(ctx, location)
	if err == nil && known {
		_, _, err = v.parsed(ctx, n, location)
	}
	return err
}

// usable tells of a table whose files are in order, but which cannot be used for what its
// metadata or the tail has. Of one that was repaired, the tail's rows are read again.
func (v *verifier) usable(ctx context.Context, n tableName) error {
	e, err := v.s.acquire(n)
	if err != nil {
		return err
	}
	defer e.release()
	e.mu.Lock()
	err = e.refresh(ctx)
	e.mu.Unlock()
	if d := (*icecat.Damaged)(nil); errors.As(err, &d) {
		v.note(Finding{State: Damaged, Bucket: bucketOf(n.Namespace), Table: n.Name, File: d.File, Problem: d.Err.Error() + "; " + d.Remedy}, icecat.WrittenFile{})
		return nil
	}
	return err
}

func (v *verifier) version(ctx context.Context, n tableName, s *table.Snapshot) error {
	var manifests []iceberg.ManifestFile
	ok, err := v.file(ctx, n, s.ManifestList, s.ManifestList, func() (err error) {
		manifests, err = s.Manifests(v.io)
		return err
	})
	if !ok || err != nil {
		return err
	}
	for _, m := range manifests {
		var entries []iceberg.ManifestEntry
		ok, err := v.file(ctx, n, m.FilePath(), m.FilePath(), func() (err error) {
			if entries, err = entriesOf(v.io, m); err != nil {
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
			_, err := v.file(ctx, n, key, d.FilePath(), func() error { return v.data(d) })
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
