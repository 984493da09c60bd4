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

// Apart reads untrusted files, each in a separate process that may crash without harm.
type Apart struct {
	memory int64

	mu   sync.Mutex
	lent int64 // memory lent to processes
}

const (
	// minProcessMemory is the minimum memory of a process.
	minProcessMemory = 64 << 20
	// besideApart is the overhead of a process: thread stacks and code.
	besideApart = 64 << 20

	// A file may contain freeValues values, and this many more for each of its bytes. A column of
	// nulls, or of one repeated value, takes almost no bytes.
	valuesPerByte  = 256
	valuesPerByteP = 16 << 10 // for Parquet and Arrow, which compress them
)

var freeValues int64 = 1 << 24 // replaced by tests

// NewApart divides memory among the files read concurrently: each gets half of the remaining
// memory, but at least 64 MiB.
func NewApart(memory int64) *Apart { return &Apart{memory: memory} }

func (a *Apart) lend() (n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n = max(minProcessMemory, (a.memory-a.lent)/2)
	a.lent += n
	return n
}

func (a *Apart) giveBack(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lent -= n
}

// task is the message that tells a process which file to read.
type task struct {
	Name   string
	Format Format
	Sep    string
	Known  []byte
	Memory int64
}

// Read is [Input.Read] in a separate process, with checks of the batches. If processes
// cannot be started, it reads in this one.
func (a *Apart) Read(ctx context.Context, in *Input) (array.RecordReader, error) {
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
	calm := p.KillWith(ctx)
	r := &apart{in: in, ctx: ctx, p: p, memory: memory, left: freeValues + valuesPerByte*info.Size()}
	if in.Format == Parquet || in.Format == Arrow {
		r.left = freeValues + valuesPerByteP*info.Size()
	}
	end := func() {
		calm()
		p.Close()
		a.giveBack(memory)
	}
	if err = p.Send(task{in.Name, in.Format, in.Sep, worker.Schema(in.Known), memory}); err == nil {
		r.batches, err = p.ReceiveBatches(memory)
	}
	if err != nil {
		end()
		return nil, r.explained(err)
	}
	return arrowsafe.Reader(r.batches.Schema, arrowsafe.Until(r.next), func() {
		r.batches.Release()
		end()
	}), nil
}

// apart reads a file in a separate process.
type apart struct {
	in      *Input
	ctx     context.Context
	p       *worker.Process
	batches *worker.Batches
	memory  int64
	left    int64 // values that may still follow
}

func (a *apart) next() (arrow.RecordBatch, error) {
	b, err := a.batches.Next()
	if err = a.explained(err); b == nil || err != nil {
		return nil, err
	}
	if a.left -= b.NumRows() * b.NumCols(); a.left < 0 {
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

// explained returns an error that says why reading failed if the process died, and other errors
// unchanged.
func (a *apart) explained(err error) error {
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

// decode reads a file in the separate process, and sends the batches.
func decode(c *worker.Conn) error {
	var t task
	if err := c.Receive(&t); err != nil {
		return err
	}
	defer worker.LowerPriorityLater()()
	known, err := worker.ParseSchema(t.Known)
	if err == nil {
		err = worker.Limit(t.Memory + besideApart)
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
