// Package filejobs turns files into files: it groups, sorts, joins, splits and deduplicates
// records, or selects the top ones.
package filejobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/hashagg"
	"github.com/go-partd/partd/internal/output"
	"github.com/go-partd/partd/internal/progress"
	"github.com/go-partd/partd/internal/records"
	"github.com/go-partd/partd/internal/tempdir"
)

// Options are common to all jobs.
type Options struct {
	Files    []string // [Stdin] is the standard input
	Output   string   // the file to write; "" or [Stdin] is the standard output
	Force    bool     // replace existing files
	In       *os.File // the standard input
	Out      io.Writer
	From, To records.Layout // of the input, and of the output
	SkipBad  bool           // skip and count bad records
	Memory   Memory
	Threads  int // maximum threads; fewer are used if memory is short
	Temp     []string
	Bar      *progress.Bar
}

// Result describes a finished job.
type Result struct {
	Inputs  *Inputs
	Tally   records.Tally
	Lines   []Line   // the summary
	Notes   []string // warnings about likely mistakes
	Written int64    // bytes of the output
	Seconds float64
}

// OptionError is an error in the options, whatever the data.
type OptionError struct{ Err error }

func (e *OptionError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *OptionError) Unwrap() error { return e.Err }

func optionErrorf(format string, args ...any) error { return &OptionError{fmt.Errorf(format, args...)} }

// Engine does the work of a job.
type Engine interface {
	// plan checks the header and the options, before anything is created.
	plan(j *job) error
	run(ctx context.Context, j *job) error
}

// job is one run of an engine, with its input, temporary directories and output.
type job struct {
	Options
	Result
	ctx       context.Context // the context of the whole job
	temp      *tempdir.Set
	sink      *sink
	ownOutput bool // the engine writes its output without a sink
	reading   *job // the job whose input an error is about: this one, or the other side of a join
	cancel    context.CancelCauseFunc
	closers   []func() error
}

// Run runs a job.
func Run(ctx context.Context, o *Options, e Engine) (_ *Result, err error) {
	j := &job{Options: *o, ctx: ctx}
	j.reading = j
	j.Threads = min(j.Threads, j.Memory.threads())
	if j.Inputs, err = OpenInputs(ctx, j.In, j.Files, j.From, j.Memory.MaxRecord()); err != nil {
		return nil, err
	}
	if j.From.HasHeader() && j.Inputs.Columns == nil {
		j.To.NoHeader = true // empty input, empty output
	}
	if err := e.plan(j); err != nil {
		return nil, err
	}
	if !j.ownOutput {
		if j.sink, err = openSink(ctx, &j.Options); err != nil {
			return nil, err
		}
		defer func() { err = joinErrors(err, j.sink.abort()) }()
	}
	if j.temp, err = tempdir.New(j.Temp, nil); err != nil {
		return nil, err
	}
	defer func() { err = joinErrors(err, j.temp.Close()) }()
	start := time.Now()
	if err := j.work(ctx, e); err != nil {
		return nil, j.reading.Inputs.SkipHint(err, j.reading.From)
	}
	j.Seconds = time.Since(start).Seconds()
	j.Notes = append(j.Notes, j.Inputs.Note(j.From)...)
	return &j.Result, nil
}

func (j *job) work(parent context.Context, e Engine) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	j.cancel = cancel
	j.Bar.Count(j.Inputs.Size, j.Inputs.Read.Load)
	err := e.run(ctx, j)
	for i := len(j.closers) - 1; i >= 0; i-- {
		err = joinErrors(err, j.closers[i]())
	}
	if err != nil || j.sink == nil {
		return err
	}
	j.Bar.Wait("writing", nil)
	j.Written = j.sink.Bytes()
	return j.sink.commit()
}

// newSorter returns a sorter, which is closed after the engine has ended.
func (j *job) newSorter(ctx context.Context, memory int64, keepKeys bool) (*extsort.Sorter, error) {
	s, err := extsort.New(ctx, &extsort.Options{Memory: memory, Threads: j.Threads, Temp: j.temp, KeepKeys: keepKeys})
	if err == nil {
		j.closers = append(j.closers, s.Close)
	}
	return s, err
}

// newTables returns an aggregator, which is closed after the engine has ended.
func (j *job) newTables(ctx context.Context, o hashagg.Options) (*hashagg.Aggregator, error) {
	o.Temp = j.temp
	a, err := hashagg.New(ctx, o)
	if err == nil {
		j.closers = append(j.closers, a.Close)
	}
	return a, err
}

// read reads the input, and checks that every byte is accounted for. Several goroutines call
// use. An error from use cancels ctx before read waits for the other goroutines.
func (j *job) read(ctx context.Context, fields []records.Field, use func(*records.Block) error) error {
	return j.readAs(ctx, records.Config{Fields: fields}, use)
}

// readAs is like read, with the fields of cfg.
func (j *job) readAs(ctx context.Context, cfg records.Config, use func(*records.Block) error) error {
	cfg = records.Config{
		Layout: j.From, Fields: cfg.Fields, AllFields: cfg.AllFields, Columns: j.Inputs.Columns, SkipBad: j.SkipBad,
		Block: j.Memory.Block(), MaxRecord: j.Memory.MaxRecord(), Workers: j.Threads,
	}
	var err error
	j.Tally, err = records.Read(ctx, j.Inputs.Files, cfg, func(b *records.Block) error {
		err := use(b)
		if err != nil {
			j.cancel(canceled.Failure(err))
		}
		return err
	})
	if err != nil {
		return err
	}
	return cmp.Or(CheckMembers(&j.Tally), CheckTally(&j.Tally))
}

// sortRecord is a record to be sorted.
type sortRecord struct {
	key, value []byte
	buf        []byte // memory for key and value
}

// sortBy returns a function that adds the records of a block to a sorter. place sets the key
// of a record, and reports whether to sort the record.
func (j *job) sortBy(sorter *extsort.Sorter, place func(*records.Block, *sortRecord) (bool, error)) func(*records.Block) error {
	bufs := make([][]byte, j.Threads)
	return func(b *records.Block) (err error) {
		w, err := sorter.Batch(uint64(b.Seq))
		if err != nil {
			return err
		}
		defer func() { err = joinErrors(err, w.Close()) }()
		r := sortRecord{buf: bufs[b.Worker]}
		for b.Next() {
			r.value, r.buf = b.Record, r.buf[:0]
			sorts, err := place(b, &r)
			if err == nil && sorts {
				err = w.Add(r.key, r.value)
			}
			if err != nil {
				return tooLong(b, err)
			}
		}
		bufs[b.Worker] = r.buf
		return nil
	}
}

// isTyped reports whether the output preserves the types of values in the input.
func (j *job) isTyped() bool {
	return j.From.Format == records.JSONL && j.To.Format == records.JSONL
}

// keyBy returns the key of a record's fields, and the buffer that the key may share.
func (j *job) keyBy(buf []byte, fields [][]byte, bare []bool) (key, grown []byte) {
	if !j.isTyped() {
		if bare = nil; len(fields) == 1 {
			return fields[0], buf
		}
	}
	from := len(buf)
	// If buf is reallocated, earlier keys keep their memory.
	buf = appendKey(buf, fields, bare)
	return buf[from:], buf
}

// valuesOf returns the n fields of a key made by keyBy.
func (j *job) valuesOf(dst []output.Value, key []byte, n int) []output.Value {
	if n == 1 && !j.isTyped() {
		return append(dst, output.Value{Text: key})
	}
	return splitKey(dst, key)
}

// tooLong adds the line to the error of a sorter about a record that is too long. It returns
// other errors unchanged.
func tooLong(b *records.Block, err error) error {
	if errors.Is(err, extsort.ErrTooLarge) {
		b.Fail(moreMemory(err))
	}
	return err
}

// moreMemory adds advice to the error of a sorter about a record that is too long.
func moreMemory(err error) error {
	if errors.Is(err, extsort.ErrTooLarge) {
		err = fmt.Errorf("%w; increase --memory", err)
	}
	return err
}

// longKey reports that the fields of a record's key are too long.
func longKey(b *records.Block, n, limit int) {
	b.Fail(fmt.Errorf("%w: the fields to aggregate by have %d bytes, but only %d fit; increase --memory, which allows up to 1 MiB",
		hashagg.ErrTooLarge, n, limit))
}

func (j *job) engineMemory() int64 { return j.Memory.engines(j.Threads) }

// Memory is the memory of a job on files, in bytes.
type Memory int64

// Block returns the size of a block that is read.
func (m Memory) Block() int { return int(min(max(m/256, 256<<10), 1<<20)) }

// MaxRecord returns the maximum length of a record or a value: a quarter of the memory.
func (m Memory) MaxRecord() int { return int(min(m/4, partd.MaxValueLen)) }

// threads returns the maximum number of threads, whose blocks use a quarter of the memory.
func (m Memory) threads() int { return int(m)/4/m.Block() - 2 }

// engines returns the memory for the engines of a job: what remains after the input, the output
// and the program itself.
func (m Memory) engines(threads int) int64 {
	reading := int64(2+threads) * int64(m.Block())
	return max(int64(m-m/8)-reading, int64(m/2))
}
