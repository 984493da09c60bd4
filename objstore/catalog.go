package objstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/engine/segment"
)

// committedSegment is a segment that a record in the log refers to.
type committedSegment struct {
	segment.Layout
	file            segment.File // each read uses a copy with its own ReaderAt
	object          string
	base            int64  // where the segment begins in the object; not 0 if the segment is inside a log record
	data            []byte // the whole segment, if it is cached in memory
	onlySetsNewKeys bool
	ledger          segment.Ledger
}

// catalog is the index of all committed segments. It reads each record in the log once.
type catalog struct {
	*objects
	mu         ctxMutex // guards the fields below
	nextNumber uint64
	seqs       map[writerID]uint64 // sequence number of each writer's last record
	// segments may be appended to or replaced, but its elements must not change, because views share them.
	segments []*committedSegment
	drops    int
	memory   atomic.Int64 // bytes used by segments
}

// view is a snapshot of the catalog.
type view struct {
	catalog  *catalog
	segments []*committedSegment
	drops    int
}

func (c *catalog) init(o *objects) {
	c.objects, c.mu, c.seqs = o, make(ctxMutex, 1), map[writerID]uint64{}
}

// refresh reads the log to its end. Because the listing may be stale, it continues after the highest
// listed number. A missing record up to that number is an error. The first missing record after that
// number is the end of the log.
func (c *catalog) refresh(ctx context.Context) (view, error) {
	if err := c.mu.lock(ctx); err != nil { // may block for long, because another refresh may be waiting for the bucket
		return view{}, err
	}
	defer c.mu.unlock()
	after := ""
	if c.nextNumber > 0 {
		after = logName(c.nextNumber - 1)
	}
	highest, largest, err := c.listLog(ctx, after)
	if err != nil {
		return view{}, err
	}
	for largest > 0 && c.nextNumber <= highest {
		first := c.nextNumber
		object := func(i int) (string, int64) { return logName(first + uint64(i)), largest }
		n := int(min(highest-first, 1<<20)) + 1 // highest may be any number if the bucket has foreign objects
		if err := c.readAll(ctx, n, object, func(_ int, b []byte) error { return c.addRecord(ctx, b) }); err != nil {
			return view{}, err
		}
	}
	for {
		b, err := c.readObject(ctx, logName(c.nextNumber))
		if errors.Is(err, fs.ErrNotExist) {
			return view{c, c.segments, c.drops}, nil
		}
		if err != nil {
			return view{}, err
		}
		if err := c.addRecord(ctx, b); err != nil {
			return view{}, err
		}
	}
}

// readAll passes the contents of n objects, which must exist, to handle in order. It reads as many objects
// at the same time as fit in memory. object returns the name and the maximum size of an object.
func (c *catalog) readAll(
	ctx context.Context, n int, object func(i int) (string, int64), handle func(i int, b []byte) error,
) error {
	for done := 0; done < n; {
		var names []string
		for size := int64(0); len(names) < min(n-done, 16); {
			name, bytes := object(done + len(names))
			size += bytes
			if size > c.opts.Memory/32 && len(names) > 0 {
				break
			}
			names = append(names, name)
		}
		data, errs := make([][]byte, len(names)), make([]error, len(names))
		var wg sync.WaitGroup
		for i, name := range names {
			wg.Go(func() { data[i], errs[i] = c.readObject(ctx, name) })
		}
		wg.Wait()
		for i, err := range errs {
			if errors.Is(err, fs.ErrNotExist) {
				return corrupt(objectPath(c.bucket, names[i]),
					errors.New("the object is missing, although other records of the log show that it must exist"))
			}
			if err == nil {
				err = handle(done+i, data[i])
			}
			if err != nil {
				return err
			}
		}
		done += len(names)
	}
	return nil
}

// addRecord applies b, the content of the log's next object.
func (c *catalog) addRecord(ctx context.Context, b []byte) error {
	r, err := parseRecord(c.format, c.nextNumber, b)
	switch {
	case err != nil:
		return corrupt(objectPath(c.bucket, logName(c.nextNumber)), err)
	case r.op == opGroup:
		err = c.applyMembers(ctx, r.members)
	default:
		err = c.applyRecord(r, logName(c.nextNumber))
	}
	if err != nil {
		return err
	}
	c.nextNumber++
	return nil
}

// applyMembers applies the records that a group names (see wait.go). It skips records that were already
// applied for another group, or by an earlier call that then failed.
func (c *catalog) applyMembers(ctx context.Context, members []member) error {
	isApplied := func(m member) bool { return m.seq <= c.seqs[m.writer] }
	members = slices.DeleteFunc(members, isApplied)
	object := func(i int) (string, int64) { return members[i].name(), members[i].size }
	return c.readAll(ctx, len(members), object, func(i int, b []byte) error {
		m := members[i]
		if isApplied(m) {
			return nil
		}
		r, err := parseRecord(c.format, m.number, b)
		if err == nil && (r.writer != m.writer || r.seq != m.seq || r.op == opGroup) {
			err = errors.New("the object is not the record that the log refers to")
		}
		if err != nil {
			return corrupt(objectPath(c.bucket, m.name()), err)
		}
		return c.applyRecord(r, m.name())
	})
}

// hasRecord reports whether the part of the log read so far contains record seq of writer w.
func (c *catalog) hasRecord(w writerID, seq uint64) bool {
	c.mu <- struct{}{}
	defer c.mu.unlock()
	return seq <= c.seqs[w]
}

// applyRecord applies r, which was read from object. If it returns an error, it has applied
// nothing.
func (c *catalog) applyRecord(r *record, object string) (err error) {
	path := objectPath(c.bucket, object)
	switch lastSeq := c.seqs[r.writer]; {
	case r.seq <= lastSeq:
		return corrupt(path,
			fmt.Errorf("the object repeats record %d of writer %x, so its appends would count twice", r.seq, r.writer))
	case r.seq > lastSeq+1:
		return corrupt(path,
			fmt.Errorf("record %d of writer %x should precede this record, but is missing", lastSeq+1, r.writer))
	}
	var segments []*committedSegment
	var memory int64
	for i := range r.parts {
		p := &r.parts[i]
		g := &committedSegment{file: fileOf(c.format, r.writer, p.segmentNumber), onlySetsNewKeys: r.op == opOnce}
		g.object = g.file.Path
		if p.inline {
			g.object, g.base = object, p.offset
		}
		g.file.Path = objectPath(c.bucket, g.object)
		file := g.file
		file.ReaderAt = &fileTail{p.size - int64(len(p.bytes)), p.bytes}
		var ledger []byte
		g.Layout, ledger, err = segment.ReadFooter(&file, p.size)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		g.ledger.Parse(ledger)
		memory += g.MemoryUsed() + 200
		if p.inline && c.memory.Load()+memory+p.size <= c.opts.Memory/16 {
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
	c.seqs[r.writer] = r.seq
	c.memory.Add(memory)
	c.shrink()
	return nil
}

// shrink reduces the catalog to its memory limit. It repeatedly halves the number of hash ranges in
// the segments with the most ranges. Readers must then read larger ranges.
func (c *catalog) shrink() {
	for c.memory.Load() > c.opts.catalogMemory() {
		var finest uint8
		for _, g := range c.segments {
			finest = max(finest, g.Bits)
		}
		if finest == 0 {
			return
		}
		coarser := make([]*committedSegment, len(c.segments))
		var memory int64
		for i, g := range c.segments {
			if g.Bits == finest {
				copied := *g
				copied.Layout = g.Coarser()
				g = &copied
			}
			coarser[i] = g
			memory += g.MemoryUsed() + 200 + int64(len(g.data))
		}
		c.segments = coarser
		c.memory.Store(memory)
	}
}

// explainMissing replaces the error for a missing object with an error that says whether the store
// was dropped during the read or is damaged. It returns other errors unchanged.
func (c *catalog) explainMissing(ctx context.Context, v view, g *committedSegment, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	currentView, refreshErr := c.refresh(ctx)
	if refreshErr == nil && currentView.drops != v.drops {
		return fmt.Errorf("%s: the store was dropped during the read: %w", g.file.Path, err)
	}
	missing := errors.New("the object is missing, although the log refers to it")
	return errors.Join(corrupt(g.file.Path, missing), refreshErr)
}
