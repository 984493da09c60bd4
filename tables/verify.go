package tables

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/tables/internal/files/content"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/state/commit"
)

// Verify reads every file of the selected tables and checks it against its checksum in the catalog. It checks the
// metadata files, manifest lists, manifests, data files and delete files of all existing versions and snapshots. It
// also checks the row count and values in each Parquet file against the count and bounds in the file's manifest. Verify
// does not check the tail, because Open does.
//
// Verify does not return an error for a damaged file; it calls o.Report instead.
func (s *Store) Verify(ctx context.Context, o *VerifyOptions) (VerifyResult, error) {
	s = s.orUnopened()
	o = cmp.Or(o, new(VerifyOptions))
	v := content.NewVerifier(s.cat, datafile.CheckDeletes)
	if o.Report != nil {
		v.OnFinding = func(f content.Finding) { o.Report(Finding{FileState(f.State), f.Bucket, f.Table, f.File, f.Problem}) }
	}
	if o.Repair != nil {
		v.Repair = func(ctx context.Context, t content.Table, f icecat.WrittenFile) (io.ReadCloser, error) {
			return o.Repair(ctx, File{t.Bucket, t.Name, f.Path, f.Size, f.Hash.Bytes()})
		}
	}
	err := s.verify(ctx, v, o)
	if err != nil {
		err = &OpError{Op: "verify", Dir: s.dir, Err: err}
	}
	return VerifyResult(v.Result), err
}

func (s *Store) verify(ctx context.Context, v *content.Verifier, o *VerifyOptions) error {
	unpin, err := s.commits.Pin() // files are not removed until unpin is called
	if err != nil {
		return err
	}
	defer unpin()
	if err := recordDamage(v, content.Table{}, s.cat.CheckFiles()); err != nil {
		return err
	}
	if dropped, err := s.cat.Moment(ctx, icecat.DroppedCommit); err != nil {
		return err
	} else if !dropped.IsZero() {
		v.Record(content.Finding{State: content.Unverified, File: filepath.Join(s.localDir, catalogFile+"-wal"), Problem: fmt.Sprintf("its last commit, which was incomplete, was dropped at %s", dropped.Format(time.RFC3339))}, 0)
	}
	if o.Tables != nil && len(o.Buckets) != 1 {
		return errNoBucket
	}
	namespaces, err := o.Buckets.namespaces(ctx, s.cat)
	if err != nil {
		return err
	}
	var failures []error // for tables that cannot be verified and are skipped
	for _, ns := range namespaces {
		states, err := s.cat.States(ctx, ns)
		if err != nil {
			return err
		}
		names := map[string]bool{}
		for _, l := range states {
			if o.Tables == nil || slices.Contains(o.Tables, l.Name) {
				names[l.Name] = true
				if !l.Pinned { // states may be so old that the metadata file has been removed
					l.Location, err = s.cat.Location(ctx, ns, l.Name)
					if errors.Is(err, icecat.ErrNotFound) {
						continue
					} else if err != nil {
						return err
					}
				}
				err := parallel.Catch(func() error { return verifyState(ctx, s.commits, v, ns, l) })
				if err != nil && ctx.Err() != nil {
					return err
				} else if err != nil {
					failures = append(failures, &OpError{Op: "verify", Bucket: bucketOf(ns), Table: l.Name, Err: err})
				}
			}
		}
		for _, name := range o.Tables {
			if !names[name] {
				return fmt.Errorf("table %q in bucket %q %w", name, bucketOf(ns), missingTable(ctx, s.cat, tableName{Namespace: ns, Name: name}))
			}
		}
		v.Result.Tables += len(names)
	}
	return errors.Join(failures...)
}

// intact reports whether Verify would find no damage in the table state whose metadata is at the given location.
func intact(ctx context.Context, tables *commit.Tables, namespace, name, location string) (bool, error) {
	v := content.NewVerifier(tables.Catalog, datafile.CheckDeletes)
	err := verifyState(ctx, tables, v, namespace, icecat.State{Name: name, Location: location})
	return v.Result.Damaged == 0, err
}

// verifyState checks the files of one state of a table. If the state is current and its metadata is intact, verifyState
// also loads the table again, to detect other damage and to make a repair take effect.
func verifyState(ctx context.Context, tables *commit.Tables, v *content.Verifier, namespace string, state icecat.State) error {
	t := content.Table{Bucket: bucketOf(namespace), Name: state.Name}
	current, err := v.VerifyState(ctx, namespace, t, state)
	if err != nil || !current {
		return err
	}
	return recordDamage(v, t, tables.Refresh(ctx, tableName{Namespace: namespace, Name: state.Name}))
}

// recordDamage records err as a finding of v and returns nil if err means damage. Otherwise, it returns err.
func recordDamage(v *content.Verifier, t content.Table, err error) error {
	if d, ok := errors.AsType[*icecat.Damaged](err); ok {
		v.Record(content.Finding{State: content.Damaged, Bucket: t.Bucket, Table: t.Name, File: d.File, Problem: d.Err.Error() + "; " + d.Remedy}, 0)
		return nil
	}
	return err
}

// Copies returns a function that searches this store, at any location, for a file with the same content.
func (s *Store) Copies() Copies {
	s = s.orUnopened()
	return func(ctx context.Context, f File) (io.ReadCloser, error) {
		hash := xxh3.Uint128{Hi: binary.BigEndian.Uint64(f.XXH3[:8]), Lo: binary.BigEndian.Uint64(f.XXH3[8:])}
		want := icecat.WrittenFile{Path: f.Location, Size: f.Size, Hash: hash}
		candidates, err := s.cat.FilesLike(ctx, want)
		if err != nil {
			return nil, err
		}
		lastErr := fmt.Errorf("the store in %s contains no copy of the file: %w", s.dir, fs.ErrNotExist)
		for _, location := range candidates {
			err := content.Check(ctx, s.cat, location, want)
			if err == nil {
				return s.cat.NewIO().Open(location)
			}
			lastErr = fmt.Errorf("check the copy %s: %w", location, err)
		}
		return nil, lastErr
	}
}
