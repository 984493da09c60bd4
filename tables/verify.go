package tables

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/tables/internal/content"
	"github.com/go-partd/partd/tables/internal/icecat"
)

// VerifyOptions of Verify. The zero value, and nil, are all tables.
type VerifyOptions struct {
	Buckets Buckets
	Tables  []string // only these of the one of Buckets; nil: all

	// Repair has good copies of files. What it has of a damaged or missing file takes
	// its place, in one step, if its size and checksum are those in the catalog.
	Repair Copies

	// Found is told of each file that is not in order, one at a time.
	Found func(Finding)
}

// Finding is what Verify says of a file.
type Finding = content.Finding

// FileState is what becomes of a file that is not in order.
type FileState = content.FileState

// The states of a Finding.
const (
	Damaged    = content.Damaged    // or missing, or not what the table's metadata says of it
	Repaired   = content.Repaired   // it was damaged
	Unverified = content.Unverified // another program wrote it, so no checksum is known; it could be read
)

// VerifyResult counts what was looked at.
type VerifyResult = content.Result

// Verify reads every file of tables, and compares it with the checksum in the catalog:
// metadata, also that of before as long as it is kept, lists of manifests, manifests and
// data, of all versions, and of those that snapshots have. Parquet files must have the
// rows, and columns within the bounds, that their manifest says. What is in the tail has
// checksums of its own; it is read when the store is opened.
//
// Damage is reported to Found, not returned as an error.
func (s *Store) Verify(ctx context.Context, o *VerifyOptions) (VerifyResult, error) {
	s = s.made()
	o = cmp.Or(o, new(VerifyOptions))
	v := content.NewVerifier(s.cat)
	v.Found = o.Found
	if o.Repair != nil {
		v.Repair = func(ctx context.Context, of content.Table, f icecat.WrittenFile) (io.ReadCloser, error) {
			return o.Repair(ctx, File{of.Bucket, of.Name, f.Path, f.Size, f.Hash.Bytes()})
		}
	}
	err := s.verify(ctx, v, o)
	if err != nil {
		err = &OpError{Op: "verify", Dir: s.dir, Err: err}
	}
	return v.Result, err
}

func (s *Store) verify(ctx context.Context, v *content.Verifier, o *VerifyOptions) error {
	unpin, err := s.commits.Pin() // no file goes meanwhile
	if err != nil {
		return err
	}
	defer unpin()
	if o.Tables != nil && len(o.Buckets) != 1 {
		return errNoBucket
	}
	namespaces, err := s.chosen(ctx, o.Buckets)
	if err != nil {
		return err
	}
	for _, ns := range namespaces {
		states, err := s.cat.States(ctx, ns)
		if err != nil {
			return err
		}
		names := map[string]bool{}
		for _, l := range states {
			if o.Tables == nil || slices.Contains(o.Tables, l.Name) {
				names[l.Name] = true
				if err := s.verifyState(ctx, v, ns, l); err != nil {
					return err
				}
			}
		}
		for _, name := range o.Tables {
			if !names[name] {
				return fmt.Errorf("table %q: %w", name, ErrNotFound)
			}
		}
		v.Result.Tables += len(names)
	}
	return nil
}

// chosen returns the namespaces of buckets, each of which must exist.
func (s *Store) chosen(ctx context.Context, buckets Buckets) (all []string, _ error) {
	if len(buckets) == 0 {
		return s.cat.Namespaces(ctx)
	}
	for _, name := range buckets {
		ns := namespaceOf(name)
		there, err := s.cat.HasNamespace(ctx, ns)
		if err == nil && !there {
			err = &OpError{Op: "look for", Bucket: name, Err: &missing{"there is no such bucket"}}
		}
		if err != nil {
			return nil, err
		}
		all = append(all, ns)
	}
	return all, nil
}

// whole reports whether Verify finds nothing of a table damaged.
func (s *Store) whole(ctx context.Context, namespace, name, location string) (bool, error) {
	v := content.NewVerifier(s.cat)
	err := s.verifyState(ctx, v, namespace, icecat.State{Name: name, Location: location})
	return v.Result.Damaged == 0, err
}

// verifyState looks at a table, and reports one whose files are in order, but which cannot
// be used for what its metadata or the tail has. Of one that was repaired, the tail's rows
// are read again.
func (s *Store) verifyState(ctx context.Context, v *content.Verifier, namespace string, l icecat.State) error {
	of := content.Table{Bucket: bucketOf(namespace), Name: l.Name}
	current, err := v.State(ctx, of, l)
	if err != nil || !current {
		return err
	}
	err = s.commits.Refresh(ctx, tableName{Namespace: namespace, Name: l.Name})
	if d := (*icecat.Damaged)(nil); errors.As(err, &d) {
		v.Note(Finding{State: Damaged, Bucket: of.Bucket, Table: of.Name, File: d.File, Problem: d.Err.Error() + "; " + d.Remedy}, 0)
		return nil
	}
	return err
}

// File is a file that a store's catalog knows by its content.
type File struct {
	Bucket, Table string
	Location      string // as Iceberg's metadata has it
	Size          int64
	XXH3          [16]byte // of the content: its xxh3-128, most significant byte first
}

// Copies returns a copy of a file from elsewhere, to repair one. Who calls it compares
// what it reads, and closes it. If there is no copy, the error wraps fs.ErrNotExist.
type Copies func(ctx context.Context, f File) (io.ReadCloser, error)

// Copies returns files of the store by their content, wherever they are in it.
func (s *Store) Copies() Copies {
	s = s.made()
	return func(ctx context.Context, f File) (io.ReadCloser, error) {
		hash := xxh3.Uint128{Hi: binary.BigEndian.Uint64(f.XXH3[:8]), Lo: binary.BigEndian.Uint64(f.XXH3[8:])}
		want := icecat.WrittenFile{Path: f.Location, Size: f.Size, Hash: hash}
		like, err := s.cat.FilesLike(ctx, want)
		if err != nil {
			return nil, err
		}
		failed := fmt.Errorf("the store in %s has no file of this content (%w)", s.dir, fs.ErrNotExist)
		for _, location := range like {
			err := content.Check(s.cat, location, want)
			if err == nil {
				return s.cat.NewIO().Open(location)
			}
			failed = fmt.Errorf("the copy %s: %w", location, err)
		}
		return nil, failed
	}
}
