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

// VerifyOptions configures Verify. The zero value, and nil, verify all tables.
type VerifyOptions struct {
	Buckets Buckets
	Tables  []string // tables of the one bucket in Buckets; nil means all tables

	// Repair supplies copies of damaged or missing files. A copy replaces the file
	// atomically if its size and checksum match the catalog.
	Repair Copies

	// Report is called for each damaged or unverified file, one at a time.
	Report func(Finding)
}

// Finding is a file that Verify found damaged or could not verify.
type Finding = content.Finding

// FileState is the state of a file in a Finding.
type FileState = content.FileState

// States of a Finding.
const (
	Damaged    = content.Damaged    // damaged, missing, or inconsistent with the table's metadata
	Repaired   = content.Repaired   // damaged, and then repaired
	Unverified = content.Unverified // readable, but written by another program, so no checksum is known
)

// VerifyResult counts the checked files. Its fields Tables, Files, Damaged, Repaired and Unverified
// are ints; Bytes, an int64, counts the bytes of files with a checksum.
type VerifyResult = content.Result

// Verify reads every file of the selected tables and compares it with the checksum in the catalog. It checks
// all metadata files, manifest lists, manifests and data files that are still kept, of all versions and
// snapshots. Parquet files must have the number of rows, and values within the bounds, that their manifest
// claims. Verify does not check the tail: it has checksums, and is read when the store is opened.
//
// Damage is reported to Report, not returned as an error.
func (s *Store) Verify(ctx context.Context, o *VerifyOptions) (VerifyResult, error) {
	s = s.orUnopened()
	o = cmp.Or(o, new(VerifyOptions))
	v := content.NewVerifier(s.cat)
	v.OnFinding = o.Report
	if o.Repair != nil {
		v.Repair = func(ctx context.Context, t content.Table, f icecat.WrittenFile) (io.ReadCloser, error) {
			return o.Repair(ctx, File{t.Bucket, t.Name, f.Path, f.Size, f.Hash.Bytes()})
		}
	}
	err := s.verify(ctx, v, o)
	if err != nil {
		err = &OpError{Op: "verify", Dir: s.dir, Err: err}
	}
	return v.Result, err
}

func (s *Store) verify(ctx context.Context, v *content.Verifier, o *VerifyOptions) error {
	unpin, err := s.commits.Pin() // no file is removed during the check
	if err != nil {
		return err
	}
	defer unpin()
	if o.Tables != nil && len(o.Buckets) != 1 {
		return errNoBucket
	}
	namespaces, err := s.selectNamespaces(ctx, o.Buckets)
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

// selectNamespaces returns the namespaces of buckets, each of which must exist.
func (s *Store) selectNamespaces(ctx context.Context, buckets Buckets) (namespaces []string, _ error) {
	if len(buckets) == 0 {
		return s.cat.Namespaces(ctx)
	}
	for _, name := range buckets {
		ns := namespaceOf(name)
		exists, err := s.cat.HasNamespace(ctx, ns)
		if err == nil && !exists {
			err = &OpError{Op: "look for", Bucket: name, Err: &notFoundError{"there is no such bucket"}}
		}
		if err != nil {
			return nil, err
		}
		namespaces = append(namespaces, ns)
	}
	return namespaces, nil
}

// intact reports whether Verify finds no damage in a table.
func (s *Store) intact(ctx context.Context, namespace, name, location string) (bool, error) {
	v := content.NewVerifier(s.cat)
	err := s.verifyState(ctx, v, namespace, icecat.State{Name: name, Location: location})
	return v.Result.Damaged == 0, err
}

// verifyState checks a table, and if its files are intact, looks for metadata or tail rows that make it
// unusable. For a repaired table, it reads the tail's rows again.
func (s *Store) verifyState(ctx context.Context, v *content.Verifier, namespace string, l icecat.State) error {
	t := content.Table{Bucket: bucketOf(namespace), Name: l.Name}
	current, err := v.VerifyState(ctx, t, l)
	if err != nil || !current {
		return err
	}
	err = s.commits.Refresh(ctx, tableName{Namespace: namespace, Name: l.Name})
	if d := (*icecat.Damaged)(nil); errors.As(err, &d) {
		v.Record(Finding{State: Damaged, Bucket: t.Bucket, Table: t.Name, File: d.File, Problem: d.Err.Error() + "; " + d.Remedy}, 0)
		return nil
	}
	return err
}

// File is a file whose content the store's catalog knows.
type File struct {
	Bucket, Table string
	Location      string // location in Iceberg's metadata
	Size          int64
	XXH3          [16]byte // xxh3-128 of the content, most significant byte first
}

// Copies returns a copy of a file from elsewhere, for a repair. The caller compares and
// closes it. If there is no copy, the error wraps fs.ErrNotExist.
type Copies func(ctx context.Context, f File) (io.ReadCloser, error)

// Copies returns files of the store by their content, wherever the store keeps them.
func (s *Store) Copies() Copies {
	s = s.orUnopened()
	return func(ctx context.Context, f File) (io.ReadCloser, error) {
		hash := xxh3.Uint128{Hi: binary.BigEndian.Uint64(f.XXH3[:8]), Lo: binary.BigEndian.Uint64(f.XXH3[8:])}
		want := icecat.WrittenFile{Path: f.Location, Size: f.Size, Hash: hash}
		candidates, err := s.cat.FilesLike(ctx, want)
		if err != nil {
			return nil, err
		}
		lastErr := fmt.Errorf("the store in %s has no file with this content (%w)", s.dir, fs.ErrNotExist)
		for _, location := range candidates {
			err := content.Check(s.cat, location, want)
			if err == nil {
				return s.cat.NewIO().Open(location)
			}
			lastErr = fmt.Errorf("the copy %s: %w", location, err)
		}
		return nil, lastErr
	}
}
