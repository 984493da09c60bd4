package logstore

import (
	"cmp"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/go-partd/partd/internal/engine/segment"
)

// Blob files contain large values, to which entries in segments refer. The store removes a blob
// file without references. If more than half of a file is unreferenced, the store replaces it
// with a sparse copy, in which values keep their offsets, so that no entry changes. Before that,
// the store waits until no reader uses merged segments, which may contain more references.

// reclaimer frees the space of dead data. It runs only in the goroutine of background. Store.mu
// guards the field changes.
type reclaimer struct {
	*merging
	blobs     *blobWriter
	blobBytes int             // values of at least this length are stored in blob files
	changes   *sync.WaitGroup // changes that began after the last call to waitChanges
}

type extent struct{ off, n int64 }

const extentMemory = 32 // approximate memory of an extent, in bytes

func (rc *reclaimer) waitChanges(ctx context.Context) error {
	rc.locks.mu.Lock()
	earlier := rc.changes
	rc.changes = &sync.WaitGroup{}
	rc.locks.mu.Unlock()
	done := make(chan struct{})
	go func() {
		earlier.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done(): // canceled by Drop or Close, which wait for all changes
		return context.Cause(ctx)
	}
}

// oldBlobFiles returns the blob files that no operation writes to any more. All references to them
// are already in tables and segments.
func (rc *reclaimer) oldBlobFiles(ctx context.Context) ([]*dataFile, error) {
	rc.locks.mu.Lock()
	files, minEnd := rc.catalog.files, rc.reclaim.slack/4
	if !rc.reclaim.isSlackReduced {
		minEnd = max(minEnd, rc.segments.fileSize()/8)
	}
	rc.locks.mu.Unlock()
	rc.blobs.mu.Lock()
	if f := rc.blobs.file; f != nil && f.end > minEnd {
		rc.blobs.file = nil // the next large value starts another file
	}
	var oldFiles []*dataFile
	for _, f := range files.files() {
		if f.Kind == segment.BlobFile && f != rc.blobs.file {
			oldFiles = append(oldFiles, f)
		}
	}
	rc.blobs.mu.Unlock()
	if len(oldFiles) == 0 {
		return nil, nil
	}
	return oldFiles, rc.waitChanges(ctx)
}

// sweepBlobs frees the unreferenced bytes of oldFiles, a few files at a time, to limit the memory
// for references. referenced holds the number of referenced bytes of each file.
func (rc *reclaimer) sweepBlobs(
	ctx context.Context, files *fileSet, oldFiles []*dataFile, referenced map[uint32]int64,
) error {
	limit := rc.storeMemory / 64 / extentMemory
	rc.locks.mu.Lock()
	slack := rc.reclaim.slack
	rc.locks.mu.Unlock()
	for len(oldFiles) > 0 {
		var victims []*dataFile
		var values int64 // upper bound on the number of values in victims
		for len(oldFiles) > 0 && (values < limit || len(victims) == 0) {
			f := oldFiles[0]
			oldFiles = oldFiles[1:]
			n := referenced[f.Number]
			canCopy := f.copiedBytes == 0 || n < f.copiedBytes/2
			if n == 0 || canCopy && f.onDisk()-n > max(n, slack/8) {
				victims = append(victims, f)
				values += n / int64(rc.blobBytes)
			}
		}
		if err := rc.sweep(ctx, files, victims); err != nil {
			return err
		}
	}
	return nil
}

func (rc *reclaimer) sweep(ctx context.Context, files *fileSet, victims []*dataFile) error {
	if len(victims) == 0 {
		return nil
	}
	rc.locks.mu.Lock()
	if rc.catalog.files != files || rc.closed {
		rc.locks.mu.Unlock()
		return errDropped
	}
	if rc.segments.oldVersions > 0 {
		rc.reclaim.mustMeasure = true
		rc.locks.mu.Unlock()
		return nil
	}
	j := &mergeJob{merging: rc.merging, ctx: ctx, view: rc.views.viewOfSegments(rc.segments.list)}
	rc.locks.mu.Unlock()
	extents := map[uint32][]extent{}
	for _, f := range victims {
		extents[f.Number] = nil
	}
	err := j.eachEntryIn(0, len(j.view.segments), 0, math.MaxUint64, func(e *segment.Entry) error {
		if e.Kind != segment.KindBlob {
			return nil
		}
		ref, err := segment.ParseBlobRef(e.Value)
		if list, isVictim := extents[ref.File]; err == nil && isVictim {
			extents[ref.File] = append(list, extent{ref.Off, ref.StoredLen()})
		}
		return err
	})
	err = errors.Join(err, j.view.close())
	if err != nil {
		return err
	}
	for _, f := range victims {
		size := f.onDisk()
		if list := extents[f.Number]; len(list) == 0 {
			err = rc.removeBlobs(files, f)
		} else {
			err = rc.copyBlobs(ctx, files, f, list)
		}
		if err != nil {
			return err
		}
		rc.locks.mu.Lock()
		if rc.catalog.files == files {
			if current := files.file(f.Number, segment.BlobFile); current != nil {
				size -= current.onDisk()
			}
			rc.segments.size.Add(-size)
			rc.reclaim.garbage = max(rc.reclaim.garbage-size, 0)
			rc.reclaim.freed += size
		}
		rc.locks.mu.Unlock()
	}
	return nil
}

// replaceBlobs calls commit to make the change on disk. Then it removes blob file f from files and
// adds the replacements, if any.
func (rc *reclaimer) replaceBlobs(files *fileSet, f *dataFile, commit func() error, replacements ...*dataFile) error {
	rc.locks.lifeMu.RLock() // blocks Drop and Close
	defer rc.locks.lifeMu.RUnlock()
	rc.locks.mu.Lock()
	err := rc.checkWritable()
	if rc.catalog.files != files {
		err = errDropped
	}
	rc.locks.mu.Unlock()
	if err != nil {
		return err
	}
	rc.catalog.mu.Lock()
	err = commit()
	if err == nil {
		files.replace([]*dataFile{f}, replacements...)
	}
	rc.catalog.mu.Unlock()
	if err != nil {
		return err
	}
	rc.locks.mu.Lock()
	defer rc.locks.mu.Unlock()
	rc.segments.startVersion([]*dataFile{f}, nil)
	return nil
}

func (rc *reclaimer) removeBlobs(files *fileSet, f *dataFile) error {
	err := rc.replaceBlobs(files, f, func() error {
		m := rc.catalog.manifest
		m.files = slices.DeleteFunc(slices.Clone(m.files), func(r fileRef) bool {
			return r.kind == segment.BlobFile && r.number == f.Number
		})
		return rc.catalog.replace(m, true)
	})
	if err != nil {
		return err
	}
	return rc.fs.Remove(f.Path)
}

// copyBlobs replaces a blob file with a sparse copy that contains only the listed values.
func (rc *reclaimer) copyBlobs(ctx context.Context, files *fileSet, f *dataFile, list []extent) (err error) {
	c := &dataFile{File: f.File}
	for _, e := range list {
		c.copiedBytes += e.n
	}
	if free, err := rc.free(); err != nil || free-free/8 < c.copiedBytes+1<<20 {
		return err // keep the file as it is
	}
	path := filepath.Join(rc.dir, blobTmpName)
	c.Path = path
	err = c.open(rc.fs, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	c.Path = f.Path
	slices.SortFunc(list, func(a, b extent) int { return cmp.Compare(a.off, b.off) })
	err = copyExtents(ctx, c, f, list)
	if err == nil {
		err = rc.replaceBlobs(files, f, func() error { return rc.fs.Rename(path, f.Path) }, c)
	}
	if err != nil {
		return errors.Join(err, c.f.Close(), rc.fs.Remove(path))
	}
	return rc.syncExclusive(rc.syncDir)
}

// copyExtents writes and syncs c, a copy of f that contains only the listed values.
func copyExtents(ctx context.Context, c, f *dataFile, list []extent) error {
	if _, err := c.f.WriteAt(f.EncodeHeader(), 0); err != nil {
		return err
	}
	buf := make([]byte, segment.WriteSize)
	for _, e := range list {
		c.end = e.off + e.n
		for off := e.off; off < c.end; off += segment.WriteSize {
			b := buf[:min(c.end-off, segment.WriteSize)]
			if err := errors.Join(f.ReadFull(b, off), ctx.Err()); err != nil {
				return err
			}
			if _, err := c.f.WriteAt(b, off); err != nil {
				return err
			}
		}
	}
	return c.f.Sync()
}
