//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables"
)

// scratch is rows that are in no file of their table, written to one for DuckDB.
// Those of a tail are kept while it stays as it is.
type scratch struct {
	dir string

	mu    sync.Mutex
	made  int
	files []*scratchFile // those kept, the one used last at the end
}

// maxScratch is how many files are kept that nobody reads: a tail is a few MiB.
const maxScratch = 32

type scratchFile struct {
	s           *scratch
	path        string
	table, mark string
	refs        int
	written     chan struct{} // closed once it is, or once err is set
	err         error
}

// write returns a file with a tail's rows, or with all rows if mark is "". The
// caller releases it.
func (s *scratch) write(ctx context.Context, m *tables.ScanPlan, mark string) (*scratchFile, error) {
	f, isNew := s.acquire(m.UUID, mark)
	if isNew {
		f.err = f.fill(ctx, m, mark != "")
		close(f.written)
	}
	select {
	case <-f.written:
	case <-ctx.Done():
		f.release()
		return nil, canceled.Err(ctx)
	}
	if f.err == nil {
		return f, nil
	}
	err := f.err
	s.mu.Lock()
	f.mark = "" // nobody else gets it
	s.mu.Unlock()
	f.release()
	if !isNew && ctx.Err() == nil {
		return s.write(ctx, m, mark) // the other query may have been cancelled
	}
	return nil, err
}

func (s *scratch) acquire(table, mark string) (_ *scratchFile, isNew bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.files {
		if mark != "" && f.mark == mark {
			f.refs++
			s.files = append(append(s.files[:i:i], s.files[i+1:]...), f)
			return f, false
		}
	}
	s.made++
	f := &scratchFile{s: s, path: filepath.Join(s.dir, fmt.Sprintf("rows-%d.parquet", s.made)), table: table, mark: mark, refs: 1, written: make(chan struct{})}
	if mark != "" {
		s.files = append(s.files, f)
	}
	return f, true
}

// release ends the use of a file.
func (f *scratchFile) release() {
	s := f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.refs--; f.refs == 0 && f.mark == "" {
		_ = os.Remove(f.path) // what is left goes with the directory
	}
	s.sweep()
}

// sweep removes files that nobody reads and that a newer one of their table
// follows, or that are too many. It wants mu.
func (s *scratch) sweep() {
	newest := map[string]bool{}
	var kept []*scratchFile
	for i := len(s.files) - 1; i >= 0; i-- {
		f := s.files[i]
		stale := f.mark == "" || newest[f.table] || len(kept) >= maxScratch
		newest[f.table] = true
		switch {
		case !stale:
			kept = append([]*scratchFile{f}, kept...)
		case f.refs > 0:
			f.mark = "" // whoever releases it last removes it
		default:
			_ = os.Remove(f.path)
		}
	}
	s.files = kept
}

// fill writes the rows, or those of the tail alone. The mark does not tell which: it
// goes when a newer tail comes.
func (f *scratchFile) fill(ctx context.Context, m *tables.ScanPlan, tail bool) error {
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	properties := parquet.NewWriterProperties(parquet.WithDictionaryDefault(false), parquet.WithVersion(parquet.V2_LATEST))
	w, err := pqarrow.NewFileWriter(m.Stored, file, properties, pqarrow.NewArrowWriterProperties())
	if err != nil {
		return errors.Join(err, file.Close())
	}
	write := func(b arrow.RecordBatch) error { return errors.Join(canceled.Err(ctx), w.Write(b)) }
	if tail {
		for i := 0; i < len(m.Tail) && err == nil; i++ {
			err = write(m.Tail[i])
		}
		return errors.Join(err, w.Close())
	}
	r, err := m.Rows(ctx)
	if err != nil {
		return errors.Join(err, w.Close())
	}
	defer r.Release()
	for err == nil && r.Next() {
		err = write(r.RecordBatch())
	}
	return errors.Join(err, r.Err(), w.Close())
}
