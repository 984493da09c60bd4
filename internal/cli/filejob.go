package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/hashagg"
	"github.com/go-partd/partd/internal/nearest"
	"github.com/go-partd/partd/internal/output"
	"github.com/go-partd/partd/internal/progress"
	"github.com/go-partd/partd/internal/records"
	"github.com/go-partd/partd/internal/tempdir"
)

// fileJob is one run of a command that makes files of files. The flags, the
// input, temporary directories and the output are ready for its work.
type fileJob struct {
	app    *app
	in     *inputFlags
	out    *outputFlags
	layout records.Layout // of the input
	to     records.Layout // of the output
	files  *inputs
	temp   *tempdir.Set
	bar    *progress.Bar
	tally  records.Tally
	sink   *sink // nil for a command that writes elsewhere
	report report
	notes  func() []string // on what is seldom meant, after the work; nil for none
}

// work is what a command does. Plan looks at the header and the flags, before
// anything is made; run does it.
type work interface {
	plan(j *fileJob) error
	run(ctx context.Context, j *fileJob) error
}

// runFiles runs a command on files. Elsewhere says that it writes its output
// itself.
func runFiles(cmd *cobra.Command, a *app, names []string, in *inputFlags, out *outputFlags, w work, elsewhere bool) (err error) {
	ctx := cmd.Context()
	j := &fileJob{app: a, in: in, out: out}
	if err := in.check(cmd); err != nil {
		return err
	}
	if j.layout, err = in.layout(names); err != nil {
		return err
	}
	if j.to, err = out.toLayout(j.layout); err != nil {
		return err
	}
	places, err := out.tmp.places()
	if err != nil {
		return err
	}
	in.memory.limitHeap()
	*in.threads = min(*in.threads, in.memory.threads())
	if j.files, err = openInputs(ctx, a, names, j.layout, in.memory.maxRecord()); err != nil {
		return err
	}
	if j.layout.HasHeader() && j.files.columns == nil {
		j.to.NoHeader = true // empty input, empty output
	}
	if err := w.plan(j); err != nil {
		return err
	}
	if !elsewhere {
		if j.sink, err = a.openSink(ctx, *out.output, *out.force, *in.threads); err != nil {
			return err
		}
		defer func() { err = alsoFailed(err, j.sink.abort()) }()
	}
	if j.temp, err = tempdir.New(places, nil); err != nil {
		return err
	}
	defer func() { err = alsoFailed(err, j.temp.Close()) }()
	if err := j.timed(ctx, w); err != nil {
		return skipHint(err, j.files.otherSep(j.layout))
	}
	return j.summary()
}

// timed does the work, with progress shown.
func (j *fileJob) timed(ctx context.Context, w work) error {
	j.bar = progress.Start(j.app.err, !*j.in.quiet && cliutil.ShowsProgress(*j.in.progress, j.app.err))
	defer j.bar.Stop()
	j.bar.Count(j.files.size, j.files.read.Load)
	j.report.start = time.Now()
	if err := w.run(ctx, j); err != nil {
		return err
	}
	if j.sink != nil {
		j.bar.Wait("writing the rest", nil)
		if err := j.sink.commit(); err != nil {
			return err
		}
	}
	j.report.seconds = time.Since(j.report.start).Seconds()
	return nil
}

// read reads the input, and checks that each byte of it is accounted for. Use
// is called by several goroutines. An error ends all that works with ctx, before
// Read waits for them: cancel has to do that.
func (j *fileJob) read(ctx context.Context, cancel context.CancelCauseFunc, fields []records.Field, use func(*records.Block) error) error {
	cfg := records.Config{
		Layout: j.layout, Fields: fields, Columns: j.files.columns, SkipBad: *j.in.skipBad,
		Block: j.in.memory.block(), MaxRecord: j.in.memory.maxRecord(), Workers: *j.in.threads,
	}
	var err error
	j.tally, err = records.Read(ctx, j.files.files, cfg, func(b *records.Block) error {
		err := use(b)
		if err != nil {
			cancel(err)
		}
		return err
	})
	if err != nil {
		return err
	}
	return cmp.Or(absent(&j.tally), checkTally(&j.tally))
}

// typed tells whether the output shows of what type a value is in the input.
func (j *fileJob) typed() bool {
	return j.layout.Format == records.JSONL && j.to.Format == records.JSONL
}

// keyBy returns the key that tells the fields of a record from others, and the
// buffer that it may be in.
func (j *fileJob) keyBy(buf []byte, fields [][]byte, bare []bool) (key, grown []byte) {
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
func (j *fileJob) valuesOf(dst []output.Value, key []byte, n int) []output.Value {
	if n == 1 && !j.typed() {
		return append(dst, output.Value{Text: key})
	}
	return splitKey(dst, key)
}

// absent is the error for a member that no record has: most likely, its name is
// wrong.
func absent(t *records.Tally) error {
	if len(t.Absent) == 0 {
		return nil
	}
	name, members := t.Absent[0].Name, records.Members(t.First)
	hint := nearest.Hint(name, members)
	if outer, _, ok := strings.Cut(name, "."); ok && slices.Contains(members, outer) {
		hint = fmt.Sprintf(" (only the members of the outermost object are fields, not those of %q)", outer)
	}
	if t.Records == 0 {
		hint = fmt.Sprintf("; the first left out: %v", t.FirstBad)
	}
	return fmt.Errorf("none of the %s read has a member %q%s", plural(t.Records+t.BadRecords, "record"), name, hint)
}

// tooLong says in which line a record is that a sorter finds too long. Other errors
// are returned as they are.
func tooLong(b *records.Block, err error) error {
	if errors.Is(err, extsort.ErrTooLarge) {
		b.Fail(fmt.Errorf("%w; a larger --memory allows more", err))
	}
	return err
}

// longKey says in which line the fields that make a key are too long.
func longKey(b *records.Block, n, most int) {
	b.Fail(fmt.Errorf("%w: the fields that are aggregated by have %d bytes, and %d fit; a larger --memory allows more, up to 1 MiB",
		hashagg.ErrTooLarge, n, most))
}

func (j *fileJob) engineMemory() int64 { return j.in.memory.engines(*j.in.threads) }
