package objstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/segment"
)

// stored is a segment that counts.
type stored struct {
	segment.Layout
	file   segment.File // without its reader
	object string
	base   int64  // where in the object the segment's data file begins
	data   []byte // of the data file, if it is kept in memory
	once   bool   // its sets are for keys that do not exist
	ledger segment.Ledger
}

// catalog is what the log says, as far as it was read. Each record is read once.
type catalog struct {
	store    *Store
	mu       sync.Mutex
	next     uint64              // number of the first record not yet read
	seqs     map[writerID]uint64 // of each writer's last record
	segments []*stored           // never changed, but appended to or replaced
	drops    int
	memory   atomic.Int64
}

// view is a snapshot of a store.
type view struct {
	segments []*stored
	drops    int
}

// current flushes the store, reads the log to its end and returns what is in it.
func (s *Store) current(ctx context.Context) (view, error) {
	if err := s.usable(ctx, false); err != nil {
		return view{}, err
	}
	if !s.opts.ReadOnly {
		if err := s.committing.lock(ctx); err != nil {
			return view{}, err
		}
		err := s.flush(ctx, false)
		s.committing.unlock()
		if err != nil {
			return view{}, err
		}
	}
	return s.catalog.refresh(ctx)
}

// listLog returns the highest number of the log after a name, by a listing, and the
// size of the largest record, or 0 if there is none.
func (s *Store) listLog(ctx context.Context, after string) (last uint64, largest int64, err error) {
	err = s.retry(ctx, func(ctx context.Context) error {
		for o, err := range s.bucket.List(ctx, "log/", after) {
			if err != nil {
				return err
			}
			digits := strings.TrimPrefix(o.Name, "log/")
			if n, err := strconv.ParseUint(digits, 10, 64); err == nil && len(digits) == 20 {
				last, largest, after = n, max(o.Size, largest, 1), o.Name
			}
		}
		return nil
	})
	return last, largest, err
}

// refresh reads the log to its end. A listing says which records must be there, so
// that one that is missing is not taken for the end. It may lag behind: what follows
// is asked for until there is nothing.
func (c *catalog) refresh(ctx context.Context) (view, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	after := ""
	if c.next > 0 {
		after = logName(c.next - 1)
	}
	last, largest, err := c.store.listLog(ctx, after)
	if err != nil {
		return view{}, err
	}
	for largest > 0 && c.next <= last {
		atOnce := max(min(c.store.opts.Memory/32/largest, 16), 1)
		if err := c.readSome(ctx, min(last-c.next+1, uint64(atOnce))); err != nil {
			return view{}, err
		}
	}
	for {
		b, err := c.store.readObject(ctx, logName(c.next))
		if errors.Is(err, fs.ErrNotExist) {
			return view{c.segments, c.drops}, nil
		}
		if err != nil {
			return view{}, err
		}
		if err := c.add(b); err != nil {
			return view{}, err
		}
	}
}

// readSome reads the next records, which must be there, at the same time.
func (c *catalog) readSome(ctx context.Context, n uint64) error {
	data, errs := make([][]byte, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range data {
		wg.Go(func() { data[i], errs[i] = c.store.readObject(ctx, logName(c.next+uint64(i))) })
	}
	wg.Wait()
	for i, err := range errs {
		if errors.Is(err, fs.ErrNotExist) {
			return corrupt(place(c.store.bucket, logName(c.next)), errors.New("it is missing, and later records of the log are there"))
		}
		if err == nil {
			err = c.add(data[i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// add applies the next record, or nothing of it.
func (c *catalog) add(b []byte) error {
	s := c.store
	path := place(s.bucket, logName(c.next))
	r, err := parseRecord(s.format, c.next, b)
	if err != nil {
		return corrupt(path, err)
	}
	switch before := c.seqs[r.writer]; {
	case r.seq <= before:
		return corrupt(path, fmt.Errorf("it repeats record %d of the writer %x: what it appends would be there twice", r.seq, r.writer))
	case r.seq > before+1:
		return corrupt(path, fmt.Errorf("record %d of the writer %x is missing before it", before+1, r.writer))
	}
	var segments []*stored
	var memory int64
	for i := range r.parts {
		p := &r.parts[i]
		g := &stored{file: fileOf(s.format, r.writer, p.n), once: r.op == opOnce}
		g.object = g.file.Path
		if p.inline {
			g.object, g.base = logName(r.number), p.at
		}
		g.file.Path = place(s.bucket, g.object)
		file := g.file
		file.ReaderAt = &tail{p.size - int64(len(p.bytes)), p.bytes}
		var account []byte
		if g.Layout, account, err = segment.ReadFooter(&file, p.size); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		g.ledger.Parse(account)
		memory += g.Memory() + 200
		if p.inline && c.memory.Load()+memory+p.size <= s.opts.Memory/16 {
			g.data = append([]byte(nil), p.bytes...)
			memory += p.size
		}
		segments = append(segments, g)
	}
	if r.op == opDrop {
		c.segments, c.drops = nil, c.drops+1
		c.memory.Store(0)
	}
	c.segments = append(c.segments, segments...)
	c.seqs[r.writer], c.next = r.seq, c.next+1
	c.memory.Add(memory)
	c.shrink()
	return nil
}

// catalogMemory is what a store may take to know where things are.
func (o *Options) catalogMemory() int64 { return o.Memory / 8 }

// shrink knows less of where in segments things are, so that more of them fit in
// memory: reading then reads more at once.
func (c *catalog) shrink() {
	for c.memory.Load() > c.store.opts.catalogMemory() {
		var finest uint8
		for _, g := range c.segments {
			finest = max(finest, g.Bits)
		}
		if finest == 0 {
			return
		}
		coarser := make([]*stored, len(c.segments))
		var memory int64
		for i, g := range c.segments {
			if g.Bits == finest {
				copied := *g
				copied.Layout = g.Coarser()
				g = &copied
			}
			coarser[i] = g
			memory += g.Memory() + 200 + int64(len(g.data))
		}
		c.segments = coarser
		c.memory.Store(memory)
	}
}

// explain turns the error of an object that is gone into one that says why, as far as
// the log knows.
func (s *Store) explain(ctx context.Context, v view, g *stored, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	now, refreshErr := s.catalog.refresh(ctx)
	if refreshErr == nil && now.drops != v.drops {
		return fmt.Errorf("%s: the store was dropped while it was read: %w", g.file.Path, err)
	}
	return errors.Join(corrupt(g.file.Path, errors.New("it is missing, and the log refers to it")), refreshErr)
}
