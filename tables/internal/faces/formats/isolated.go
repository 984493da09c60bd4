package formats

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/internal/sql/worker"
)

const decodeKind worker.Kind = "decode"

func init() { worker.Handle(decodeKind, decode) }

// IsolatedReader reads untrusted files in separate processes, so that a damaged file cannot crash this one.
type IsolatedReader struct {
	memory int64 // bytes for all processes together

	mu            sync.Mutex
	reservedBytes int64 // memory that running processes have reserved
}

const (
	// minProcessMemory is the minimum memory that a process gets, in bytes.
	minProcessMemory = 64 << 20
	// processOverhead is the memory that a process needs besides its data, in bytes, for thread stacks and code.
	processOverhead = 64 << 20
)

// freeValues is the number of values that a file of any size may contain; its format's ValuesPerByte allows more. It is
// a variable because tests replace it.
var freeValues int64 = 1 << 24

// NewIsolatedReader returns a reader that uses memory bytes for all concurrent reads. Each file gets half of the
// remaining memory, but at least 64 MiB.
func NewIsolatedReader(memory int64) *IsolatedReader { return &IsolatedReader{memory: memory} }

func (ir *IsolatedReader) reserve() (n int64) {
	ir.mu.Lock()
	defer ir.mu.Unlock()
	n = max(minProcessMemory, (ir.memory-ir.reservedBytes)/2)
	ir.reservedBytes += n
	return n
}

func (ir *IsolatedReader) unreserve(n int64) {
	ir.mu.Lock()
	defer ir.mu.Unlock()
	ir.reservedBytes -= n
}

// task is the message that tells a process which file to read.
type task struct {
	Name   string
	Format string
	records.TextOptions
	Known  []byte
	Memory int64
}

// readSmall reads and checks a small file in this process, because starting a separate process takes a hundred times as
// long. After an error, only a separate process may read the file: it is large or damaged, or its format must be
// isolated, or it needs much memory. The caller must release the batches, even after an error.
func (in *Input) readSmall(ctx context.Context, fileSize int64) (batches []arrow.RecordBatch, columns *arrow.Schema, err error) {
	const maxSize, memory = 64 << 10, 4 << 20
	if in.Format.MustIsolate || fileSize > maxSize {
		return nil, nil, partd.ErrTooLarge
	}
	small := *in
	small.Memory = memory
	r, err := small.Read(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer r.Release()
	checker, remaining := arrowsafe.Checker{Limit: memory}, int64(memory)
	for r.Next() {
		b := r.RecordBatch()
		b.Retain()
		batches = append(batches, b)
		growth, err := checker.Check(ctx, b)
		remaining -= growth + b.NumRows()*b.NumCols()
		if err != nil || remaining < 0 {
			return batches, nil, cmp.Or(err, partd.ErrTooLarge)
		}
	}
	return batches, r.Schema(), r.Err()
}

// Read reads a file and checks the batches. It uses a separate process, except for small files that need little memory.
// Where package worker is unsupported, it is the same as [Input.Read].
func (ir *IsolatedReader) Read(ctx context.Context, in *Input) (array.RecordReader, error) {
	in.IsUncompressed = true
	if !worker.Supported {
		return in.Read(ctx)
	}
	info, err := in.File.Stat()
	if err != nil {
		return nil, err
	}
	memory := ir.reserve()
	rows, columns, err := in.readSmall(ctx, info.Size())
	if err == nil {
		return batches.Reader(columns, batches.From(rows...), func() {
			take.Release(rows)
			ir.unreserve(memory)
		}), nil
	}
	take.Release(rows)
	var p *worker.Process
	_, err = in.File.Seek(0, io.SeekStart) // the process shares the file position
	if err == nil {
		p, err = worker.Start(ctx, decodeKind, in.File)
	}
	if err != nil {
		ir.unreserve(memory)
		return nil, err
	}
	stopWatching := p.KillWith(ctx)
	r := &isolatedFile{in: in, p: p, memory: memory, checker: arrowsafe.Checker{Limit: memory}, remaining: freeValues + in.Format.ValuesPerByte*info.Size()}
	closeProcess := func() {
		stopWatching()
		p.Close()
		ir.unreserve(memory)
	}
	err = p.Send(task{in.Name, in.Format.Name, in.TextOptions, worker.Schema(in.Known), memory})
	if err == nil {
		r.batches, err = p.ReceiveBatches(memory)
	}
	if err != nil {
		closeProcess()
		return nil, r.explain(ctx, err)
	}
	return batches.Reader(r.batches.Schema, batches.Until(func() (arrow.RecordBatch, error) { return r.nextBatch(ctx) }), func() {
		r.batches.Release()
		closeProcess()
	}), nil
}

type isolatedFile struct {
	in        *Input
	p         *worker.Process
	batches   *worker.Batches
	memory    int64
	checker   arrowsafe.Checker
	remaining int64 // number of values that may still follow in the file
}

func (f *isolatedFile) nextBatch(ctx context.Context) (arrow.RecordBatch, error) {
	b, err := f.batches.Next()
	err = f.explain(ctx, err)
	if b == nil || err != nil {
		return nil, err
	}
	f.remaining -= b.NumRows() * b.NumCols()
	if f.remaining < 0 {
		err = fmt.Errorf("%s: %w: the file has far more values than bytes, such as columns that contain only nulls: split it into smaller files", f.in.Name, partd.ErrTooLarge)
	} else {
		_, err = f.checker.Check(ctx, b)
		if err != nil {
			err = fmt.Errorf("%s: %w", f.in.Name, err)
		}
	}
	if err != nil {
		b.Release()
		return nil, err
	}
	return b, nil
}

// explain returns the cause of err if the context has ended or the process has died, and otherwise err.
func (f *isolatedFile) explain(ctx context.Context, err error) error {
	err = f.p.ExplainError(err)
	if err != nil && ctx.Err() != nil {
		return canceled.Err(ctx)
	}
	var death *worker.DeathError
	switch {
	case !errors.As(err, &death):
		return err
	case death.Memory:
		return fmt.Errorf("%s: %w: reading the file needs more than %d MiB of memory: split it into smaller files, or write Parquet with smaller row groups", f.in.Name, partd.ErrTooLarge, f.memory>>20)
	}
	return fmt.Errorf("%s: the file is damaged: %w", f.in.Name, err)
}

// decode runs in the separate process: it reads a file and sends the batches.
func decode(c *worker.Conn) error {
	var t task
	if err := c.Receive(&t); err != nil {
		return err
	}
	defer worker.LowerPriorityLater()() // the first call starts the countdown; the deferred one restores the priority
	known, err := worker.ParseSchema(t.Known)
	format, formatErr := Standard().Readable().Find(t.Format)
	err = cmp.Or(err, formatErr)
	if err == nil {
		err = worker.Limit(t.Memory + processOverhead)
	}
	var r array.RecordReader
	if err == nil {
		r, err = (&Input{Name: t.Name, Format: format, TextOptions: t.TextOptions, Known: known, IsUncompressed: true, File: worker.File()}).Read(context.Background())
	}
	if err != nil {
		return c.Reply(nil, err)
	}
	defer r.Release()
	return c.SendBatches(r)
}
