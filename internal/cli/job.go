package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/progress"
	"github.com/go-partd/partd/internal/records"
	"github.com/go-partd/partd/logstore"
)

// job is one run of partd shuffle.
type job struct {
	app    *app
	flags  shuffleFlags
	layout records.Layout

	keys     keyer
	in       *inputs
	store    partd.Partd
	bar      *progress.Bar
	stage    stage
	dropped  bool        // what the store held
	before   partd.Stats // what the store held, once it was dropped if it was
	after    partd.Stats
	tally    records.Tally
	appended int64 // records that Append took
	bytes    int64 // their bytes
	sum      logstore.Sum128
	proof    shuffleProof
	seconds  float64
	largest  []partd.KeyInfo
}

func (j *job) run(ctx context.Context, names []string) (err error) {
	if _, err := storeExists(*j.flags.url); err != nil {
		return err
	}
	maxRecord := j.flags.memory.maxRecord()
	cfg := records.Config{
		Layout: j.layout, SkipBad: *j.flags.skipBad, MaxRecord: maxRecord,
		Block: j.flags.memory.block(), Workers: *j.flags.threads,
	}
	options := j.flags.memory.keepTo(*j.flags.url)
	if j.in, err = openInputs(ctx, j.app, names, j.layout, maxRecord); err != nil {
		return err
	}
	cfg.Columns = j.in.columns
	if cfg.Fields, err = resolveBy(*j.flags.by, j.layout, j.in.columns); errors.Is(err, records.ErrFieldZero) {
		return usagef("--by: %w", err)
	} else if err != nil {
		return fmt.Errorf("--by %q of %s, read as %s: %w%s", *j.flags.by, names[0], j.layout.Format, err, j.in.otherSep(j.layout))
	}
	if j.store, err = j.app.open(ctx, *j.flags.url, options); err != nil {
		return err
	}
	err = j.fill(ctx, cfg)
	closeStore(ctx, j.store, &err)
	if err != nil {
		return j.failed(err)
	}
	return j.summary()
}

// fill puts the records into the store and looks whether they are there.
func (j *job) fill(ctx context.Context, cfg records.Config) (err error) {
	j.bar = progress.Start(j.app.err, j.showProgress())
	defer j.bar.Stop()
	start := time.Now()
	if err := j.prepare(ctx); err != nil {
		return err
	}
	if err := j.move(ctx, cfg); err != nil {
		return err
	}
	j.seconds = time.Since(start).Seconds()
	j.bar.Wait("comparing", nil)
	if err := j.compare(ctx); err != nil {
		return err
	}
	j.largest, err = largest(ctx, j.store, 5)
	return err
}

// prepare makes sure that the store's content is what the flags say.
func (j *job) prepare(ctx context.Context) error {
	for _, err := range partd.Keys(ctx, j.store) {
		if err != nil {
			return err
		}
		switch {
		case *j.flags.replace:
			j.bar.Wait("dropping what the store holds", nil)
			j.enter(dropping)
			if err := j.store.Drop(ctx); err != nil {
				return err
			}
			j.dropped = true
		case !*j.flags.add:
			return fmt.Errorf("the store %s already holds keys: add to them with --append, or drop them first with --replace",
				*j.flags.url)
		}
		break
	}
	j.enter(filling)
	var err error
	if j.before, err = partd.Stat(ctx, j.store); err != nil {
		return err
	}
	return j.proof.begin(ctx, *j.flags.stats, j.store)
}

// move reads all records into the store.
func (j *job) move(ctx context.Context, cfg records.Config) (err error) {
	j.bar.Count(j.in.size, j.in.read.Load)
	most := mostBatch(j.flags.memory.share(*j.flags.url))
	lists := make([]entryList, cfg.Workers)
	for i := range lists {
		lists[i].proves = j.proof.store != nil
	}
	j.tally, err = records.Read(ctx, j.in.files, cfg, func(b *records.Block) error {
		list := &lists[b.Worker]
		list.fill(b, j.keys)
		if err := b.Turn(); err != nil { // the records of a key stay in order
			return err
		}
		for entries := range batches(list.entries, most) {
			if err := j.store.Append(ctx, entries...); err != nil {
				return err
			}
			j.appended += int64(len(entries))
			for i := range entries {
				j.bytes += int64(len(entries[i].Value))
			}
		}
		return nil
	})
	if err = cmp.Or(err, absent(&j.tally)); err != nil {
		return skipHint(err, j.in.otherSep(j.layout))
	}
	for i := range lists {
		j.sum.Add(lists[i].sum)
	}
	var left func() int64
	if m, ok := j.store.(partd.MemoryUser); ok {
		left = m.MemoryUsed
	}
	j.bar.Wait("writing the rest", left)
	if err := partd.Flush(ctx, j.store); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	j.enter(stored)
	return nil
}

func (j *job) showProgress() bool {
	return !*j.flags.quiet && cliutil.ShowsProgress(*j.flags.progress, j.app.err)
}

// skipHint tells of --skip-bad where it would have helped, and of another
// separator.
func skipHint(err error, otherSep string) error {
	var bad *records.BadError
	if errors.As(err, &bad) {
		return fmt.Errorf("%w%s (--skip-bad leaves out and counts such records)", err, otherSep)
	}
	return err
}

// compare compares what was read with what the store holds.
func (j *job) compare(ctx context.Context) (err error) {
	if j.after, err = partd.Stat(ctx, j.store); err != nil {
		return err
	}
	t := &j.tally
	j.stage = differs
	switch more := j.after.Bytes - j.before.Bytes; {
	case !t.Accounted():
		return fmt.Errorf("of %d bytes read, %d became records, and %d were left out: these do not add up",
			t.ReadBytes, t.RecordBytes, t.HeaderBytes+t.BlankBytes+t.BadBytes)
	case t.Records != j.appended || t.RecordBytes != j.bytes:
		return fmt.Errorf("%d records of %d bytes were read, but %d of %d bytes appended",
			t.Records, t.RecordBytes, j.appended, j.bytes)
	case more != j.bytes:
		return fmt.Errorf("%d records of %d bytes were appended, but the store %s holds %d bytes more than before: "+
			"either another program writes to it, or it lost something", j.appended, j.bytes, *j.flags.url, more)
	}
	if err := j.proof.compare(ctx, j.appended, j.sum); err != nil {
		return err
	}
	j.enter(compared)
	return nil
}
