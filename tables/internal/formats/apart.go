package formats

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/worker"
)

const decoder worker.Kind = "decode"

func init() { worker.Handle(decoder, decode) }

// IsolatedReader reads untrusted files, each in a separate process, which may crash without harm.
type IsolatedReader struct {
	memory int64

	mu        sync.Mutex
	lentBytes int64 // memory that running processes may use
}

const (
	// minProcessMemory is the minimum memory of a process.
	minProcessMemory = 64 << 20
	// processOverhead is the memory of a process without its data: thread stacks and code.
	processOverhead = 64 << 20

	// A file may contain freeValues values, and this many more for each of its bytes. A column of nulls, or
	// of one repeated value, needs almost no bytes.
	valuesPerByte           = 256
	valuesPerCompressedByte = 16 << 10 // for Parquet and Arrow, which compress values
)

var freeValues int64 = 1 << 24 // replaced by tests

// NewIsolatedReader returns a reader that divides memory among concurrently read files: each gets half of the
// remaining memory, but at least 64 MiB.
func NewIsolatedReader(memory int64) *IsolatedReader { return &IsolatedReader{memory: memory} }

func (a *IsolatedReader) lend() (n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n = max(minProcessMemory, (a.memory-a.lentBytes)/2)
	a.lentBytes += n
	return n
}

func (a *IsolatedReader) giveBack(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lentBytes -= n
}

// task is the message that tells a process which file to read.
type task struct {
	Name   string
	Format Format
	Sep    string
	Known  []byte
	Memory int64
}

// Read is like [Input.Read], but reads in a separate process, and checks the batches. If processes cannot be
// started, it reads in this process.
func (a *IsolatedReader) Read(ctx context.Context, in *Input) (array.RecordReader, error) {
	if !worker.Supported {
		return in.Read(ctx)
	}
	info, err := in.File.Stat()
	if err != nil {
		return nil, err
	}
	memory := a.lend()
	p, err := worker.Start(ctx, decoder, in.File)
	if err != nil {
		a.giveBack(memory)
		return nil, err
	}
	stopWatching := p.KillWith(ctx)
	r := &isolatedFile{in: in, ctx: ctx, p: p, memory: memory, remaining: freeValues + valuesPerByte*info.Size()}
	if in.Format == Parquet || in.Format == Arrow {
		r.remaining = freeValues + valuesPerCompressedByte*info.Size()
	}
	closeProcess := func() {
		stopWatching()
		p.Close()
		a.giveBack(memory)
	}
	if err = p.Send(task{in.Name, in.Format, in.Sep, worker.Schema(in.Known), memory}); err == nil {
		r.batches, err = p.ReceiveBatches(memory)
	}
	if err != nil {
		closeProcess()
		return nil, r.explain(err)
	}
	return arrowsafe.Reader(r.batches.Schema, arrowsafe.Until(r.nextBatch), func() {
		r.batches.Release()
		closeProcess()
	}), nil
}

// isolatedFile is a file that a separate process reads.
type isolatedFile struct {
	in        *Input
	ctx       context.Context
	p         *worker.Process
	batches   *worker.Batches
	memory    int64
	remaining int64 // number of values that may still follow
}

func (a *isolatedFile) nextBatch() (arrow.RecordBatch, error) {
	b, err := a.batches.Next()
	if err = a.explain(err); b == nil || err != nil {
		return nil, err
	}
	if a.remaining -= b.NumRows() * b.NumCols(); a.remaining < 0 {
		err = fmt.Errorf("%s: %w: it has far more values than bytes, as columns of nothing but nulls have: put it in smaller parts", a.in.Name, partd.ErrTooLarge)
	} else if _, err = arrowsafe.Check(b, a.memory); err != nil {
		err = fmt.Errorf("%s: %w", a.in.Name, err)
	}
	if err != nil {
		b.Release()
		return nil, err
	}
	return b, nil
}

// explain returns an error that says why reading failed if the process died, and other errors unchanged.
func (a *isolatedFile) explain(err error) error {
	if err = a.p.ExplainError(err); err != nil && a.ctx.Err() != nil {
		return canceled.Err(a.ctx)
	}
	var death *worker.DeathError
	switch {
	case !errors.As(err, &death):
		return err
	case death.Memory:
		return fmt.Errorf("%s: %w: reading it takes more than %d MiB of memory: put it in smaller parts, or Parquet in smaller row groups", a.in.Name, partd.ErrTooLarge, a.memory>>20)
	}
	return fmt.Errorf("%s: the file is damaged: %w", a.in.Name, err)
}

// decode reads a file, in the separate process, and sends the batches.
func decode(c *worker.Conn) error {
	var t task
	if err := c.Receive(&t); err != nil {
		return err
	}
	defer worker.LowerPriorityLater()()
	known, err := worker.ParseSchema(t.Known)
	if err == nil {
		err = worker.Limit(t.Memory + processOverhead)
	}
	var r array.RecordReader
	if err == nil {
		r, err = (&Input{Name: t.Name, Format: t.Format, Sep: t.Sep, Known: known, File: worker.File()}).Read(context.Background())
	}
	if err != nil {
		return c.Reply(nil, err)
	}
	defer r.Release()
	return c.SendBatches(r)
}
