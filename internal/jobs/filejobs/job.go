// Package filejobs sorts, joins, splits or deduplicates the records of files, or selects the top
// records. It writes the result to files. Package group implements another Engine for these jobs.
package filejobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/progress"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/engine/hashagg"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/internal/jobs/records"
)

// Options are common to all jobs.
type Options struct {
	Files    []string // [Stdin] means the standard input
	Output   string   // the file to write; "" or [Stdin] means the standard output
	Force    bool     // replace existing files
	In       *os.File // the standard input
	Out      io.Writer
	From, To records.Layout // layouts of the input and of the output
	SkipBad  bool           // skip and count bad records
	Where    string         // condition on the records to read, or on the rows of a join; "" keeps all
	Columns  string         // columns to write, separated by commas; "" writes all
	Memory   Memory
	Threads  int // maximum number of threads; a job with little memory uses fewer
	Temp     []string
	Bar      *progress.Bar
}

// Result describes a finished job.
type Result struct {
	Inputs  *Inputs
	Tally   records.Tally
	Lines   []Line   // the summary
	Notes   []string // warnings about likely mistakes
	Written int64    // size of the output in bytes
	Seconds float64
}

// OptionError reports options that are invalid for any input.
type OptionError struct{ Err error }

func (e *OptionError) Error() string { return e.Err.Error() }

// Unwrap returns the underlying error.
func (e *OptionError) Unwrap() error { return e.Err }

// OptionErrorf returns an [OptionError].
func OptionErrorf(format string, args ...any) error { return &OptionError{fmt.Errorf(format, args...)} }

// Engine executes a job, such as sorting.
type Engine interface {
	// Plan checks the header and the options. It is called before any file is created.
	Plan(j *Job) error
	// Run does the job.
	Run(ctx context.Context, j *Job) error
}

// Selecter is an engine that applies Options.Where or Options.Columns (or both) itself, because
// they refer to its output rows and not to the input's records.
type Selecter interface {
	// Selects returns the condition and the columns to apply to the input's records.
	Selects(o *Options) (where, columns string)
}

// Job is one execution of an engine.
type Job struct {
	Options
	Result
	Ctx         context.Context // the context of the whole job
	TempSet     *tempdir.Set
	selection   *Selection // nil keeps all records
	sink        *sink
	writesFiles bool // the engine writes its files itself, so sink is nil
	current     *Job // the job whose input is being read; a join has a second job for its right side
	cancel      context.CancelCauseFunc
	closers     []func() error // called in reverse order after the engine has finished
}

// Run executes a job.
func Run(ctx context.Context, o *Options, e Engine) (_ *Result, err error) {
	j := &Job{Options: *o, Ctx: ctx}
	j.current = j
	j.Threads = min(j.Threads, j.Memory.threads())
	if err := o.checkStreams(e); err != nil {
		return nil, err
	}
	j.Inputs, err = OpenInputs(ctx, j.In, j.Files, j.From, j.Memory.MaxRecord())
	if err != nil {
		return nil, err
	}
	if j.To.Format == records.JSONL {
		j.Inputs.numberColumns(j.From)
	}
	condition, columns := o.Where, o.Columns
	if s, ok := e.(Selecter); ok {
		condition, columns = s.Selects(o)
	}
	j.selection, err = j.Inputs.Select(j.From, j.To, condition, columns)
	if err != nil {
		return nil, err
	}
	if err := e.Plan(j); err != nil {
		return nil, err
	}
	if !j.writesFiles {
		j.sink, err = openSink(ctx, &j.Options)
		if err != nil {
			return nil, err
		}
		defer func() { err = JoinErrors(err, j.sink.abort()) }()
	}
	j.TempSet, err = tempdir.New(j.Temp, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = JoinErrors(err, j.TempSet.Close()) }()
	start := time.Now()
	if err := j.execute(ctx, e); err != nil {
		err = adviseSpace(err, "set --tmp to a directory on a disk with more space", j.Temp...)
		return nil, j.current.Inputs.SkipHint(err, j.current.From)
	}
	j.Seconds = time.Since(start).Seconds()
	j.Notes = append(j.Notes, j.Inputs.Warnings(j.From)...)
	if j.Tally.Dropped > 0 {
		j.Report("filtered_records", "filtered", j.Tally.Dropped)
	}
	if j.Tally.Mended.Filled > 0 {
		j.Report("filled_records", "filled", j.Tally.Mended.Filled)
	}
	if j.Tally.Mended.Cut > 0 {
		j.Report("cut_records", "cut", j.Tally.Mended.Cut)
	}
	return &j.Result, nil
}

// checkStreams returns an error if a pipe is used for two inputs, or for an input and the output.
func (o *Options) checkStreams(e Engine) error {
	names := slices.Clone(o.Files)
	if join, ok := e.(*joinEngine); ok {
		names = append(names, join.Right)
	}
	if info, err := os.Stat(o.Output); err == nil && !o.ToStdout() && info.Mode()&fs.ModeNamedPipe != 0 { // unlike a pipe, a terminal can be input and output
		names = append(names, o.Output)
	}
	if err := records.CheckStreams(o.In, names...); err != nil {
		return &OptionError{err}
	}
	return nil
}

func (j *Job) execute(parent context.Context, e Engine) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	j.cancel = cancel
	j.Bar.Count(j.Inputs.Size, j.Inputs.BytesRead.Load)
	err := e.Run(ctx, j)
	for i := len(j.closers) - 1; i >= 0; i-- {
		err = JoinErrors(err, j.closers[i]())
	}
	if err != nil || j.sink == nil {
		return err
	}
	j.Bar.Wait("writing", nil)
	j.Written = j.sink.Bytes()
	return j.sink.commit()
}

// NewSorter returns a sorter that the job closes after the engine has finished. If keepKeys is set,
// the sorter's output includes the keys.
func (j *Job) NewSorter(ctx context.Context, memory int64, keepKeys bool) (*extsort.Sorter, error) {
	s, err := extsort.New(ctx, &extsort.Options{Memory: memory, Threads: j.Threads, Temp: j.TempSet, KeepKeys: keepKeys})
	if err != nil {
		return s, err
	}
	j.CloseLater(s.Close)
	return s, nil
}

// NewAggregator returns an aggregator that the job closes after the engine has finished.
func (j *Job) NewAggregator(ctx context.Context, o hashagg.Options) (*hashagg.Aggregator, error) {
	o.Temp = j.TempSet
	a, err := hashagg.New(ctx, o)
	if err != nil {
		return a, err
	}
	j.CloseLater(a.Close)
	return a, nil
}

// Read reads the input and calls handle from several goroutines. If handle fails, Read cancels ctx
// and waits for the other goroutines.
func (j *Job) Read(ctx context.Context, fields []records.Field, handle func(*records.Block) error) error {
	return j.readConfig(ctx, records.Config{Fields: fields}, handle)
}

// readConfig is like Read for cfg.Fields and cfg.AllFields. It ignores the other fields of cfg.
func (j *Job) readConfig(ctx context.Context, cfg records.Config, handle func(*records.Block) error) error {
	cfg = records.Config{
		Layout: j.From, Fields: cfg.Fields, AllFields: cfg.AllFields, Columns: j.Inputs.Columns, SkipBad: j.SkipBad,
		Block: j.Memory.Block(), MaxRecord: j.Memory.MaxRecord(), Workers: j.Threads, Selector: j.selection.Selector(j.Memory.MaxRecord()),
	}
	var err error
	j.Tally, err = records.Read(ctx, j.Inputs.Files, cfg, func(b *records.Block) error {
		err := handle(b)
		if err != nil {
			j.cancel(canceled.Failure(err))
		}
		return err
	})
	if err != nil {
		return err
	}
	return cmp.Or(CheckMembers(&j.Tally), j.Inputs.CheckSkipped(&j.Tally, j.From), CheckTally(&j.Tally))
}

// CloseLater makes the job call closer after the engine has finished.
func (j *Job) CloseLater(closer func() error) { j.closers = append(j.closers, closer) }

// Write writes to the job's output.
func (j *Job) Write(p []byte) (int, error) { return j.sink.Write(p) }

type sortRecord struct {
	key, value []byte
	buf        []byte // memory for key and value
}

// sortBy returns a function that adds the records in a block to a sorter. setKey sets the key
// of a record and returns false for a record that must not be sorted.
func (j *Job) sortBy(sorter *extsort.Sorter, setKey func(*records.Block, *sortRecord) (bool, error)) func(*records.Block) error {
	bufs := make([][]byte, j.Threads)
	return func(b *records.Block) (err error) {
		w, err := sorter.Batch(uint64(b.Seq))
		if err != nil {
			return err
		}
		defer func() { err = JoinErrors(err, w.Close()) }()
		r := sortRecord{buf: bufs[b.Worker]}
		for b.Next() {
			r.value, r.buf = b.Record, r.buf[:0]
			include, err := setKey(b, &r)
			if err == nil && include {
				err = w.Add(r.key, r.value)
			}
			if err != nil {
				return ReportTooLong(b, err)
			}
		}
		bufs[b.Worker] = r.buf
		return nil
	}
}

// IsTyped reports whether the output preserves the types of values in the input.
func (j *Job) IsTyped() bool {
	return j.From.Format == records.JSONL && j.To.Format == records.JSONL
}

// KeyBy returns a key for the given fields. It may append the key to buf and returns the new buf. bare[i]
// is true if field i is a JSON number or boolean.
func (j *Job) KeyBy(buf []byte, fields [][]byte, bare []bool) (key, grown []byte) {
	if !j.IsTyped() {
		bare = nil
		if len(fields) == 1 {
			return fields[0], buf
		}
	}
	from := len(buf)
	// If append reallocates buf, earlier keys stay valid: they refer to the old memory.
	buf = AppendKey(buf, fields, bare)
	return buf[from:], buf
}

// AppendKeyValues appends the n fields that KeyBy encoded in key.
func (j *Job) AppendKeyValues(dst []output.Value, key []byte, n int) []output.Value {
	if n == 1 && !j.IsTyped() {
		return append(dst, output.Value{Text: key})
	}
	return splitKey(dst, key)
}

// ReportTooLong returns err. If err says that the current record is too long, it also makes the
// block fail, so that the job's error names the record's line.
func ReportTooLong(b *records.Block, err error) error {
	if errors.Is(err, extsort.ErrTooLarge) {
		b.Fail(AdviseMemory(err))
	}
	return err
}

// AdviseMemory adds advice to err if a record was too long for the memory.
func AdviseMemory(err error) error {
	if errors.Is(err, extsort.ErrTooLarge) {
		err = fmt.Errorf("%w; increase --memory", err)
	}
	return err
}

// ReportLongKey makes the block fail because the current record's key has n bytes.
func ReportLongKey(b *records.Block, n, limit int) {
	b.Fail(fmt.Errorf("%w: the key fields have %d bytes, but the limit is %d; increase --memory (the limit can reach 1 MiB)",
		hashagg.ErrTooLarge, n, limit))
}

// adviseSpace adds advice to err if the disk with the temporary files in one of dirs is full.
func adviseSpace(err error, advice string, dirs ...string) error {
	p, ok := errors.AsType[*fs.PathError](err)
	if !ok || !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	for _, dir := range dirs {
		if strings.HasPrefix(p.Path, filepath.Join(dir, "partd-tmp-")) {
			return fmt.Errorf("%s: %w", advice, err)
		}
	}
	return err
}

func (j *Job) engineMemory() int64 {
	if j.selection.Replaces() { // each thread has a buffer for the new records in a block
		return j.Memory.ForEngine(2 * j.Threads)
	}
	return j.Memory.ForEngine(j.Threads)
}

// Memory is the amount of memory that a job may use, in bytes.
type Memory int64

// Block returns the size of an input block, in bytes.
func (m Memory) Block() int { return int(min(max(m/256, 256<<10), 1<<20)) }

// MaxRecord returns the maximum length of a record or a value: a quarter of the memory.
func (m Memory) MaxRecord() int { return int(min(m/4, partd.MaxValueLen)) }

// threads returns the maximum number of threads. Their input blocks, one for each thread and two
// spare ones, may use a quarter of the memory.
func (m Memory) threads() int { return int(m)/4/m.Block() - 2 }

// ForEngine returns the memory left for the engine after the input's blocks, the output and the
// program itself.
func (m Memory) ForEngine(threads int) int64 {
	reading := int64(2+threads) * int64(m.Block())
	return max(int64(m-m/8)-reading, int64(m/2))
}
