// Package datafile reads and writes a table's Parquet files and lists the files of a table version.
//
// A file's columns are found by their Iceberg field IDs, which do not change when a column is renamed, moved or
// widened. If a file lacks a column, the column's values are null or its default. If a column has a narrower type in a
// file, its values are widened without loss. A condition's columns are read first; the other columns are read only if a
// row matches. This package chooses the leaf columns to decode and the rows to keep, and arrow-go decodes them.
package datafile

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"golang.org/x/sync/semaphore"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
)

type readResult struct {
	batch    arrow.RecordBatch
	err      error
	consumed chan struct{} // closed when the consumer asks for the next batch; nil if the batch is small
}

// Read yields the rows of files, in order. The caller must release each batch.
func (s *Scan) Read(ctx context.Context, files []File) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		if s.Workers > 1 {
			s.readConcurrently(ctx, files, yield)
			return
		}
		for _, file := range files {
			if !s.readSequentially(ctx, file, yield) {
				return
			}
		}
	}
}

// ReadFew is like Read, but only for small reads. If there are more than maxFiles files, or if the row groups that can
// match have more than maxRows rows in total or are not small, it returns nil for rows and closeFiles. Otherwise, the
// caller must call closeFiles.
func (s *Scan) ReadFew(ctx context.Context, files []File, maxRows int64) (rows iter.Seq2[arrow.RecordBatch, error], closeFiles func(), err error) {
	const maxFiles = 16
	if len(files) > maxFiles {
		return nil, nil, nil
	}
	remaining := maxRows
	var opened []*file
	closeFiles = func() {
		for _, f := range opened {
			f.close()
		}
	}
	for _, source := range files {
		f, err := s.open(ctx, source)
		if err != nil {
			closeFiles()
			return nil, nil, err
		}
		opened = append(opened, f)
		for _, g := range f.groups {
			remaining -= g.rows
			if remaining < 0 || !f.isSmall(ctx, g) {
				closeFiles()
				return nil, nil, nil
			}
		}
	}
	return func(yield func(arrow.RecordBatch, error) bool) {
		for _, f := range opened {
			if !f.readGroups(ctx, yield) {
				return
			}
		}
	}, closeFiles, nil
}

// AreSmall reports whether every row group that can match needs little memory. If a file's result is in s.Small,
// AreSmall does not open the file.
func (s *Scan) AreSmall(ctx context.Context, files []File) (bool, error) {
	useCache := s.Small != nil && s.Where == nil // with a condition, the result depends on which row groups match
	columnIDs := ""
	for _, c := range s.Columns {
		id, _ := idOf(c.IDs)
		columnIDs += "," + strconv.Itoa(id)
	}
	const entryOverhead = 100 // estimated bytes that a cache entry needs besides its key
	for _, f := range files {
		key := fmt.Sprintf("%s %d%s", f.Path, f.Skip, columnIDs)
		var small, known bool
		if useCache {
			small, known = s.Small.Get(key)
		}
		if !known {
			var err error
			small, err = s.isSmall(ctx, f)
			if err != nil {
				return false, err
			}
			if useCache {
				s.Small.Put(key, small, int64(len(key))+entryOverhead)
			}
		}
		if !small {
			return false, nil
		}
	}
	return true, nil
}

func (s *Scan) isSmall(ctx context.Context, source File) (bool, error) {
	f, err := s.open(ctx, source)
	if err != nil {
		return false, err
	}
	defer f.close()
	for _, g := range f.groups {
		if !f.isSmall(ctx, g) {
			return false, canceled.Err(ctx)
		}
	}
	return true, nil
}

// readSequentially reads a file's row groups one after another. It returns false if it failed or the consumer stopped.
func (s *Scan) readSequentially(ctx context.Context, file File, yield func(arrow.RecordBatch, error) bool) bool {
	f, err := s.open(ctx, file)
	if err != nil {
		yield(nil, err)
		return false
	}
	defer f.close()
	return f.readGroups(ctx, yield)
}

// readGroups reads the row groups that can match. Like readSequentially, it returns false if it failed or the consumer
// stopped.
func (f *file) readGroups(ctx context.Context, yield func(arrow.RecordBatch, error) bool) bool {
	for _, g := range f.groups {
		for b, err := range f.rows(ctx, g) {
			if !yield(b, err) || err != nil {
				return false
			}
		}
	}
	return true
}

type readAhead struct {
	rows chan readResult
	size int64 // bytes of Scan.Memory that the row group uses
}

// readConcurrently reads row groups concurrently, each in a goroutine that decodes up to maxAhead batches ahead.
func (s *Scan) readConcurrently(ctx context.Context, files []File, yield func(arrow.RecordBatch, error) bool) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	// Of s.Workers row groups, the consumer holds one, start is sending one, and the queue has the others.
	queue, slots, memory := make(chan readAhead, s.Workers-2), make(chan struct{}, s.Workers), semaphore.NewWeighted(s.Memory+1)
	start := func(size int64, read func(send func(arrow.RecordBatch, error) bool), done func()) bool {
		group := readAhead{make(chan readResult, maxAhead-1), min(size, s.Memory+1)}
		if memory.Acquire(ctx, group.size) != nil || canceled.Send(ctx, slots, struct{}{}) != nil {
			done()
			return false
		}
		running.Go(func() {
			defer func() { <-slots }()
			defer close(group.rows)
			defer done()
			err := parallel.Catch(func() error {
				read(func(b arrow.RecordBatch, err error) bool {
					r := readResult{b, err, nil}
					if err == nil && SizeOf(b) > 2*maxBatchBytes { // the values are long, so few such batches fit into memory
						r.consumed = make(chan struct{})
					}
					return canceled.Send(ctx, group.rows, r) == nil && err == nil && (r.consumed == nil || canceled.Wait(ctx, r.consumed) == nil)
				})
				return nil
			})
			if err != nil {
				_ = canceled.Send(ctx, group.rows, readResult{err: err}) // fails only if the consumer has stopped
			}
		})
		return canceled.Send(ctx, queue, group) == nil
	}
	running.Go(func() {
		defer close(queue)
		for _, file := range files {
			f, err := s.open(ctx, file)
			if err != nil {
				start(0, func(send func(arrow.RecordBatch, error) bool) { send(nil, err) }, func() {})
				return
			}
			var reading sync.WaitGroup
			proceed := true
			for i := 0; i < len(f.groups) && proceed; i++ {
				reading.Add(1)
				proceed = start(f.groups[i].size, f.rows(ctx, f.groups[i]), reading.Done)
			}
			running.Go(func() {
				reading.Wait()
				f.close()
			})
			if !proceed {
				return
			}
		}
	})
	for group := range queue {
		for r := range group.rows {
			if !yield(r.batch, r.err) || r.err != nil {
				return
			}
			if r.consumed != nil {
				close(r.consumed)
			}
		}
		memory.Release(group.size)
	}
	if err := canceled.Err(ctx); err != nil {
		yield(nil, err)
	}
}
