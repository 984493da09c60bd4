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

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
)

// Finding describes a file that is not intact.
type Finding struct {
	State   FileState `json:"state"`
	Bucket  string    `json:"bucket"`
	Table   string    `json:"table"`
	File    string    `json:"file"` // path
	Problem string    `json:"problem"`
}

// FileState is the state of a file that is not intact.
type FileState string

// The states of a Finding.
const (
	Damaged    FileState = "damaged"    // damaged, missing, or different from the table's metadata
	Repaired   FileState = "repaired"   // was damaged, and was replaced by a good copy
	Unverified FileState = "unverified" // readable, but without a checksum, because another program wrote the file
)

// Result counts the files that were verified.
type Result struct {
	Tables, Files                 int
	Bytes                         int64 // total size of the files whose checksums are in the catalog
	Damaged, Repaired, Unverified int
}

// Verifier compares the files of tables with the catalog's checksums.
type Verifier struct {
	Catalog *icecat.Catalog
	Result  Result

	// CheckDeletes returns an error if a delete file cannot be read.
	CheckDeletes func(context.Context, *table.Table, iceberg.DataFile) error

	// Repair returns the content for a damaged or missing file, for example from a backup. The content is used only if
	// it matches the catalog's checksum. If Repair is nil, files are only verified.
	Repair    func(ctx context.Context, name Table, f icecat.WrittenFile) (io.ReadCloser, error)
	OnFinding func(Finding) // called for each file that is not intact, one at a time; may be nil

	mu       sync.Mutex
	verified map[xxh3.Uint128]struct{}
	fileIO   *icecat.FileIO
}

// NewVerifier returns a verifier of a catalog's tables.
func NewVerifier(c *icecat.Catalog, checkDeletes func(context.Context, *table.Table, iceberg.DataFile) error) *Verifier {
	return &Verifier{Catalog: c, CheckDeletes: checkDeletes, fileIO: c.NewIO(), verified: map[xxh3.Uint128]struct{}{}}
}

// Table is a table's name.
type Table struct{ Bucket, Name string }

// verifyFile verifies a file, repairs it if necessary, and reports whether it is intact. If it was already called with
// this key, it returns false at once. After verifying the checksum, it calls parse, which checks the content further.
func (v *Verifier) verifyFile(ctx context.Context, name Table, key, location string, parse func() error) (bool, error) {
	hash := xxh3.HashString128(key)
	v.mu.Lock()
	_, verified := v.verified[hash]
	v.verified[hash] = struct{}{}
	v.mu.Unlock()
	if verified {
		return false, nil
	}
	recorded, hasRecord, err := v.Catalog.FileAt(ctx, location)
	if err != nil {
		return false, err
	}
	check := func() (readErr, problem error) {
		v.Catalog.Forget(location)
		if hasRecord {
			readErr = Check(ctx, v.Catalog, location, recorded)
		}
		if readErr == nil {
			problem = cause(parallel.Catch(parse))
		}
		return readErr, problem
	}
	readErr, problem := check()
	if hasRecord && (readErr != nil || problem != nil) {
		// Another process may have removed the file, because nothing needs it any more. Sweep removes the record first.
		_, hasRecord, err = v.Catalog.FileAt(ctx, location)
		if err != nil || !hasRecord {
			return false, err
		}
	}
	finding := Finding{State: Damaged, Bucket: name.Bucket, Table: name.Name, File: location}
	if readErr != nil {
		finding.Problem = readErr.Error()
		if v.Repair != nil {
			if repairErr := v.repair(ctx, name, recorded); repairErr != nil {
				finding.Problem += "; not repaired: " + repairErr.Error()
			} else {
				readErr, problem = check()
				if readErr == nil && problem == nil {
					finding.State = Repaired
				}
			}
		}
	}
	switch {
	case ctx.Err() != nil: // the errors may be due to the cancellation
		return false, canceled.Err(ctx)
	case problem != nil:
		finding.Problem = problem.Error()
		if !hasRecord && errors.Is(problem, fs.ErrNotExist) {
			finding.Problem += "; the catalog has no checksum to identify a copy"
		}
	case readErr == nil && finding.State == Damaged && !hasRecord:
		finding.State, finding.Problem = Unverified, "another program wrote the file, so the catalog has no checksum"
	}
	v.Record(finding, recorded.Size)
	return readErr == nil && problem == nil, nil
}

func (v *Verifier) repair(ctx context.Context, name Table, f icecat.WrittenFile) error {
	r, err := v.Repair(ctx, name, f)
	if err != nil {
		return err
	}
	return errors.Join(v.Catalog.NewIO().Replace(f, r), r.Close())
}

// Record counts a file and reports the finding if it has a problem.
func (v *Verifier) Record(f Finding, size int64) {
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
	f.File = v.Catalog.DisplayPath(f.File)
	if v.OnFinding != nil {
		v.OnFinding(f)
	}
}

// VerifyState verifies a table's metadata and all files to which the metadata refers. current is true if the metadata
// is intact and is the table's current metadata, not only that of a state pinned by snapshots.
func (v *Verifier) VerifyState(ctx context.Context, namespace string, name Table, state icecat.State) (current bool, err error) {
	_ = v.Catalog.RestoreMetadataFile(ctx, state.Location) // if this fails, the file counts as damaged
	meta, ok, err := v.verifyMetadata(ctx, name, state.Location)
	if !ok || err != nil {
		return false, err
	}
	for old := range meta.PreviousFiles() {
		// Skip a file without a checksum in the catalog, because it may rightly be missing: the operation "expire" may
		// have removed it, or it is the table's first metadata file, which was never synced.
		_, recorded, err := v.Catalog.FileAt(ctx, old.MetadataFile)
		if err == nil && recorded {
			_ = v.Catalog.RestoreMetadataFile(ctx, old.MetadataFile) // while there are snapshots, the catalog keeps a copy of the first metadata file
			_, _, err = v.verifyMetadata(ctx, name, old.MetadataFile)
		}
		if err != nil {
			return false, err
		}
	}
	versions := meta.Snapshots()
	if state.Pinned { // Sweep keeps only the newest version of a pinned state
		versions = nil
		if s := meta.CurrentSnapshot(); s != nil {
			versions = append(versions, *s)
		}
	}
	t := v.Catalog.Staged("", "", meta, state.Location, v.fileIO)
	for _, s := range versions {
		if !state.Pinned {
			cur, err := v.Catalog.Load(ctx, namespace, state.Name)
			if err == nil && cur.SnapshotByID(s.SnapshotID) == nil {
				continue // the version has expired in the meantime, so its files are being removed
			}
		}
		if err := v.verifyVersion(ctx, name, t, &s); err != nil {
			return false, err
		}
	}
	return !state.Pinned, nil
}

func (v *Verifier) verifyMetadata(ctx context.Context, name Table, location string) (meta table.Metadata, ok bool, err error) {
	ok, err = v.verifyFile(ctx, name, location, location, func() error {
		b, err := v.fileIO.ReadFile(location)
		if err != nil {
			return err
		}
		meta, err = table.ParseMetadataBytes(b)
		return err
	})
	return meta, ok, err
}

func (v *Verifier) verifyVersion(ctx context.Context, name Table, t *table.Table, s *table.Snapshot) error {
	var manifests []iceberg.ManifestFile
	ok, err := v.verifyFile(ctx, name, s.ManifestList, s.ManifestList, func() (err error) {
		manifests, err = s.Manifests(v.fileIO)
		return err
	})
	if !ok || err != nil {
		return err
	}
	for _, m := range manifests {
		var entries []iceberg.ManifestEntry
		ok, err := v.verifyFile(ctx, name, m.FilePath(), m.FilePath(), func() (err error) {
			entries, err = Entries(v.fileIO, m)
			if err != nil {
				return err
			}
			rows := int64(0)
			for _, e := range entries {
				rows += e.DataFile().Count()
			}
			if listed := m.AddedRows() + m.ExistingRows(); rows != listed {
				err = fmt.Errorf("the manifest's files have %d rows, but the manifest list says %d", rows, listed)
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
			// The key includes what this manifest says about the file. If another manifest says something else, both
			// versions are checked.
			key := fmt.Sprint(d.FilePath(), d.FileSizeBytes(), d.Count(), d.LowerBoundValues(), d.UpperBoundValues())
			if offset := d.ContentOffset(); offset != nil { // a file can have several deletion vectors
				key += fmt.Sprint(" ", *offset)
			}
			_, err := v.verifyFile(ctx, name, key, d.FilePath(), func() error { return v.checkDataFile(ctx, t, d) })
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
