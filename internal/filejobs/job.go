// Package filejobs turns files into files: grouped, sorted, split, without
// duplicates, or only the top records.
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

// Options are what all jobs have in common.
type Options struct {
	Files    []string // [Stdin] is the standard input
	Output   string   // the file to write; "" or [Stdin] is the standard output
	Force    bool     // replaces files that exist
	In       *os.File // the standard input
	Out      io.Writer
	From, To records.Layout // of the input, and of the output
	SkipBad  bool           // leaves out and counts records that cannot be used
	Memory   Memory
	Threads  int // of which no more work than there is memory for
	Temp     []string
	Bar      *progress.Bar
}

// Result is the account of a job.
type Result struct {
	Inputs  *Inputs
	Tally   records.Tally
	Lines   []Line   // what the job tells of itself
	Notes   []string // on what is seldom meant
	Written int64    // bytes of the output
	Seconds float64
}

// OptionError is an error that the options alone show, whatever the data.
type OptionError struct{ Err error }

func (e *OptionError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *OptionError) Unwrap() error { return e.Err }

func optionErrorf(format string, args ...any) error { return &OptionError{fmt.Errorf(format, args...)} }

// Engine is what a job does.
type Engine interface {
	// plan looks at the header and the options, before anything is made.
	plan(j *job) error
	run(ctx context.Context, j *job) error
}

// job is one run of an engine. The input, temporary directories and the output
// are ready for its work.
type job struct {
	Options
	Result
	ctx       context.Context // of the whole job
	temp      *tempdir.Set
	sink      *sink
	elsewhere bool // the engine writes its output itself: there is no sink
	reading   *job // whose input is at fault if there is an error: itself, or the other side of a join
	cancel    context.CancelCauseFunc
	closers   []func() error
}

// Run does a job.
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
	if !j.elsewhere {
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
	j.Bar.Wait("writing the rest", nil)
	j.Written = j.sink.Bytes()
	return j.sink.commit()
}

// newSorter returns a sorter that is closed when the engine has ended.
func (j *job) newSorter(ctx context.Context, memory int64, keepKeys bool) (*extsort.Sorter, error) {
	s, err := extsort.New(ctx, &extsort.Options{Memory: memory, Threads: j.Threads, Temp: j.temp, KeepKeys: keepKeys})
	if err == nil {
		j.closers = append(j.closers, s.Close)
	}
	return s, err
}

// newTables returns tables that are closed when the engine has ended.
func (j *job) newTables(ctx context.Context, o hashagg.Options) (*hashagg.Aggregator, error) {
	o.Temp = j.temp
	a, err := hashagg.New(ctx, o)
	if err == nil {
		j.closers = append(j.closers, a.Close)
	}
	return a, err
}

// read reads the input, and checks that each byte of it is accounted for. Use
// is called by several goroutines. An error ends all that works with ctx, before
// Read waits for them.
func (j *job) read(ctx context.Context, fields []records.Field, use func(*records.Block) error) error {
	return j.readAs(ctx, records.Config{Fields: fields}, use)
}

// readAs does so with what cfg says of the fields.
func (j *job) readAs(ctx context.Context, cfg records.Config, use func(*records.Block) error) error {
	cfg = records.Config{
		Layout: j.From, Fields: cfg.Fields, AllFields: cfg.AllFields, Columns: j.Inputs.Columns, SkipBad: j.SkipBad,
		Block: j.Memory.Block(), MaxRecord: j.Memory.MaxRecord(), Workers: j.Threads,
	}
	var err error
	j.Tally, err = records.Read(ctx, j.Inputs.Files, cfg, func(b *records.Block) error {
		err := use(b)
		if err != nil {
			j.cancel(canceled.Because(err))
		}
		return err
	})
	if err != nil {
		return err
	}
	return cmp.Or(Absent(&j.Tally), CheckTally(&j.Tally))
}

// sortRecord is a record on its way to a sorter.
type sortRecord struct {
	key, value []byte
	buf        []byte // what they may be in
}

// sortBy returns what adds the records of a block to a sorter. Place makes the
// key of the record at hand, and reports whether it is sorted at all.
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

// typed reports whether the output shows of what type a value is in the input.
func (j *job) typed() bool {
	return j.From.Format == records.JSONL && j.To.Format == records.JSONL
}

// keyBy returns the key that tells the fields of a record from others, and the
// buffer that it may be in.
func (j *job) keyBy(buf []byte, fields [][]byte, bare []bool) (key, grown []byte) {
	if !j.typed() {
		if bare = nil; len(fields) == 1 {
			return fields[0], buf
		}
	}
	from := len(buf)
	// Where this moves to new memory, earlier keys stay where they are.
	buf = appendKey(buf, fields, bare)
	return buf[from:], buf
}

// valuesOf returns the fields of a key that keyBy made of n of them.
func (j *job) valuesOf(dst []output.Value, key []byte, n int) []output.Value {
	if n == 1 && !j.typed() {
		return append(dst, output.Value{Text: key})
	}
	return splitKey(dst, key)
}

// tooLong says in which line a record is that a sorter finds too long. Other errors
// are returned as they are.
func tooLong(b *records.Block, err error) error {
	if errors.Is(err, extsort.ErrTooLarge) {
		b.Fail(moreMemory(err))
	}
	return err
}

// moreMemory adds what to do to the error of a sorter that finds something too long.
func moreMemory(err error) error {
	if errors.Is(err, extsort.ErrTooLarge) {
		err = fmt.Errorf("%w; a larger --memory allows more", err)
	}
	return err
}

// longKey says in which line the fields that make a key are too long.
func longKey(b *records.Block, n, limit int) {
	b.Fail(fmt.Errorf("%w: the fields to aggregate by have %d bytes, but only %d fit; a larger --memory allows more, up to 1 MiB",
		hashagg.ErrTooLarge, n, limit))
}

func (j *job) engineMemory() int64 { return j.Memory.engines(j.Threads) }

// Memory is how many bytes a command on files may take.
type Memory int64

// Block is how much is read at once.
func (m Memory) Block() int { return int(min(max(m/256, 256<<10), 1<<20)) }

// MaxRecord is the longest record, or value, that fits: a quarter.
func (m Memory) MaxRecord() int { return int(min(m/4, partd.MaxValueLen)) }

// threads is how many threads there is memory for: what they read at once takes a
// quarter of it.
func (m Memory) threads() int { return int(m)/4/m.Block() - 2 }

// engines is what the engine of a job may use: what the input, the output and the
// program itself leave.
func (m Memory) engines(threads int) int64 {
	reading := int64(2+threads) * int64(m.Block())
	return max(int64(m-m/8)-reading, int64(m/2))
}
