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

func (s *Store) waitChanges(ctx context.Context) error {
	s.mu.Lock()
	earlier := s.changes
	s.changes = &sync.WaitGroup{}
	s.mu.Unlock()
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

// oldBlobFiles returns the blob files to which nothing is written any more. All references to them
// are already in tables and segments.
func (s *Store) oldBlobFiles(ctx context.Context) ([]*dataFile, error) {
	s.mu.Lock()
	files, minEnd := s.catalog.files, s.reclaim.slack/4
	if !s.reclaim.isSlackReduced {
		minEnd = max(minEnd, s.segments.fileSize()/8)
	}
	s.mu.Unlock()
	s.blobs.mu.Lock()
	if f := s.blobs.file; f != nil && f.end > minEnd {
		s.blobs.file = nil // the next large value starts another file
	}
	var oldFiles []*dataFile
	for _, f := range files.files() {
		if f.Kind == segment.BlobFile && f != s.blobs.file {
			oldFiles = append(oldFiles, f)
		}
	}
	s.blobs.mu.Unlock()
	if len(oldFiles) == 0 {
		return nil, nil
	}
	return oldFiles, s.waitChanges(ctx)
}

// sweepBlobs frees the unreferenced bytes of oldFiles, a few files at a time, to limit the memory
// for references. referenced holds the number of referenced bytes of each file.
func (s *Store) sweepBlobs(ctx context.Context, files *fileSet, oldFiles []*dataFile, referenced map[uint32]int64) error {
	limit := s.opts.Memory / 64 / extentMemory
	s.mu.Lock()
	slack := s.reclaim.slack
	s.mu.Unlock()
	for len(oldFiles) > 0 {
		var victims []*dataFile
		var values int64 // upper bound of the number of values in victims
		for len(oldFiles) > 0 && (values < limit || len(victims) == 0) {
			f := oldFiles[0]
			oldFiles = oldFiles[1:]
			if n := referenced[f.Number]; n == 0 || f.onDisk()-n > max(n, slack/8) && (f.copiedBytes == 0 || n < f.copiedBytes/2) {
				victims = append(victims, f)
				values += n / int64(s.blobBytes)
			}
		}
		if err := s.sweep(ctx, files, victims); err != nil {
			return err
		}
	}
	return nil
}

type extent struct{ off, n int64 }

const extentMemory = 32 // approximate memory of an extent, in bytes

func (s *Store) sweep(ctx context.Context, files *fileSet, victims []*dataFile) error {
	if len(victims) == 0 {
		return nil
	}
	s.mu.Lock()
	if s.catalog.files != files || s.closed {
		s.mu.Unlock()
		return errDropped
	}
	if s.segments.oldVersions > 0 {
		s.reclaim.mustMeasure = true
		s.mu.Unlock()
		return nil
	}
	j := &mergeJob{s: s, ctx: ctx, view: s.views.ofSegments(s.segments.list)}
	s.mu.Unlock()
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
	if err = errors.Join(err, j.view.close()); err != nil {
		return err
	}
	for _, f := range victims {
		size := f.onDisk()
		if list := extents[f.Number]; len(list) == 0 {
			err = s.removeBlobs(files, f)
		} else {
			err = s.copyBlobs(ctx, files, f, list)
		}
		if err != nil {
			return err
		}
		s.mu.Lock()
		if s.catalog.files == files {
			if current := files.file(f.Number, segment.BlobFile); current != nil {
				size -= current.onDisk()
			}
			s.segments.size.Add(-size)
			s.reclaim.garbage = max(s.reclaim.garbage-size, 0)
		}
		s.mu.Unlock()
	}
	return nil
}

// replaceBlobs calls commit, which must make the change on disk, and then replaces blob file f in
// files with replacements, if any.
func (s *Store) replaceBlobs(files *fileSet, f *dataFile, commit func() error, replacements ...*dataFile) error {
	s.lifeMu.RLock() // prevents Drop and Close
	defer s.lifeMu.RUnlock()
	s.mu.Lock()
	err := s.checkWritable()
	if s.catalog.files != files {
		err = errDropped
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.catalog.mu.Lock()
	if err = commit(); err == nil {
		files.replace([]*dataFile{f}, replacements...)
	}
	s.catalog.mu.Unlock()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments.startVersion([]*dataFile{f}, nil)
	return nil
}

func (s *Store) removeBlobs(files *fileSet, f *dataFile) error {
	err := s.replaceBlobs(files, f, func() error {
		m := s.catalog.manifest
		m.files = slices.DeleteFunc(slices.Clone(m.files), func(r fileRef) bool { return r.kind == segment.BlobFile && r.number == f.Number })
		return s.catalog.replace(m, true)
	})
	if err != nil {
		return err
	}
	return s.fs.Remove(f.Path)
}

// copyBlobs replaces a blob file with a sparse copy that contains only the listed values.
func (s *Store) copyBlobs(ctx context.Context, files *fileSet, f *dataFile, list []extent) (err error) {
	c := &dataFile{File: f.File}
	for _, e := range list {
		c.copiedBytes += e.n
	}
	if free, err := s.free(); err != nil || free-free/8 < c.copiedBytes+1<<20 {
		return err // keep the file as it is
	}
	path := filepath.Join(s.dir, blobTmpName)
	c.Path = path
	if err = c.open(s.fs, os.O_RDWR|os.O_CREATE|os.O_TRUNC); err != nil {
		return err
	}
	c.Path = f.Path
	slices.SortFunc(list, func(a, b extent) int { return cmp.Compare(a.off, b.off) })
	buf := make([]byte, segment.WriteSize)
	_, err = c.f.WriteAt(f.EncodeHeader(), 0)
	for _, e := range list {
		c.end = e.off + e.n
		for off := e.off; off < c.end && err == nil; off += segment.WriteSize {
			b := buf[:min(c.end-off, segment.WriteSize)]
			if err = errors.Join(f.ReadFull(b, off), ctx.Err()); err == nil {
				_, err = c.f.WriteAt(b, off)
			}
		}
	}
	if err == nil {
		err = c.f.Sync()
	}
	if err == nil {
		err = s.replaceBlobs(files, f, func() error { return s.fs.Rename(path, f.Path) }, c)
	}
	if err != nil {
		return errors.Join(err, c.f.Close(), s.fs.Remove(path))
	}
	return s.syncExclusive(s.syncDir)
}
