package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/base/progress"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/jobs/filejobs"
	"github.com/go-partd/partd/internal/jobs/records"
)

type shuffleFlags struct {
	inputFlags
	by, url      *string
	add, replace *bool
	stats        *bool
	partitions   *int
}

const maxPartitions = 1 << 20

// check returns an error if the flags are invalid. It does not read the files.
func (f *shuffleFlags) check(cmd *cobra.Command) error {
	switch {
	case *f.by == "":
		return cliutil.Usagef("--by is missing: set it to the field that has the key")
	case *f.add && *f.replace:
		return cliutil.Usagef("--append and --replace cannot be used together")
	case cmd.Flags().Changed("partitions") && (*f.partitions < 1 || *f.partitions > maxPartitions):
		return cliutil.Usagef("--partitions must be from 1 to %d, not %d", maxPartitions, *f.partitions)
	}
	return f.inputFlags.check()
}

type shuffleRun struct {
	target
	flags  shuffleFlags
	layout records.Layout

	in            *filejobs.Inputs
	store         partd.Partd
	bar           *progress.Bar
	statsBefore   partd.Stats // before the first append and after any drop
	statsAfter    partd.Stats
	tally         records.Tally
	appended      int64 // number of records appended
	bytes         int64 // total size of these records
	sum           ledger.Sum128
	checksumProof shuffleProof
	seconds       float64
	largestKeys   []partd.KeyInfo
}

func (j *shuffleRun) run(ctx context.Context, names []string) (err error) {
	if _, err := storeExists(ctx, "store", j.url); err != nil {
		return err
	}
	memory := filejobs.Memory(j.flags.memory.Bytes)
	cfg := records.Config{
		Layout: j.layout, SkipBad: j.flags.text.SkipBad, MaxRecord: memory.MaxRecord(),
		Block: memory.Block(), Workers: *j.flags.threads,
	}
	options := limitMemory(j.flags.memory.Bytes, j.url)
	j.in, err = filejobs.OpenInputs(ctx, j.app.in, names, j.layout, memory.MaxRecord())
	if err != nil {
		return err
	}
	cfg.Columns = j.in.Columns
	cfg.Fields, err = j.in.ResolveFields("by", *j.flags.by, j.layout)
	if err != nil {
		return err
	}
	selection, err := j.in.Select(j.layout, j.layout, *j.flags.where, *j.flags.columns)
	if err != nil {
		return err
	}
	cfg.Selector = selection.Selector(cfg.MaxRecord)
	j.store, err = j.app.open(ctx, j.url, options)
	if err != nil {
		return err
	}
	err = j.fillStore(ctx, cfg)
	closeStore(ctx, j.store, &err)
	if err != nil {
		return j.withStoreState(err)
	}
	return nil
}

func (j *shuffleRun) withStoreState(err error) error {
	// Close flushes buffered records; if it fails, the count is unreliable.
	count := ""
	if f := new(failure); j.appended > 0 && !(errors.As(err, &f) && f.closeErr != nil) {
		count = fmt.Sprintf(" (at least %s records)", humanize.Comma(j.appended))
	}
	// A failed append may still have taken effect.
	touched := j.appended > 0 || errors.Is(err, partd.ErrUnknownOutcome)
	return j.target.withStoreState(err, touched, count)
}

func (j *shuffleRun) fillStore(ctx context.Context, cfg records.Config) (err error) {
	j.bar = progress.Start(j.app.errOut, j.flags.showsProgress(j.app))
	defer j.bar.Stop()
	start := time.Now()
	if err := j.prepare(ctx, j.bar, j.store, j.store, func() error { return nil }); err != nil {
		return err
	}
	j.statsBefore, err = partd.Stat(ctx, j.store)
	if err != nil {
		return err
	}
	if err := j.checksumProof.begin(ctx, *j.flags.stats, j.store); err != nil {
		return err
	}
	if err := j.appendRecords(ctx, cfg); err != nil {
		return err
	}
	j.seconds = time.Since(start).Seconds()
	j.bar.Wait("comparing", nil)
	return j.compare(ctx)
}

func (j *shuffleRun) appendRecords(ctx context.Context, cfg records.Config) (err error) {
	j.bar.Count(j.in.Size, j.in.BytesRead.Load)
	batchBytes := min(partd.BatchBytes(j.store), int(j.flags.memory.Bytes/64))
	entryLists := make([]entryList, cfg.Workers)
	for i := range entryLists {
		entryLists[i].computesSum = j.checksumProof.store != nil
	}
	j.tally, err = records.Read(ctx, j.in.Files, cfg, func(b *records.Block) error {
		list := &entryLists[b.Worker]
		list.fill(b, *j.flags.partitions)
		if err := b.WaitForEarlier(); err != nil { // keeps the records of a key in order
			return err
		}
		for entries := range partd.Batches(list.entries, batchBytes) {
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
	err = cmp.Or(err, filejobs.CheckMembers(&j.tally), j.in.CheckSkipped(&j.tally, j.layout))
	if err != nil {
		return j.in.SkipHint(err, j.layout)
	}
	for i := range entryLists {
		j.sum.Add(entryLists[i].sum)
	}
	j.bar.Wait("flushing", memoryUsed(j.store))
	if err := flush(ctx, j.store); err != nil {
		return err
	}
	j.setStage(stored)
	return nil
}

func (j *shuffleRun) compare(ctx context.Context) (err error) {
	// largestKeys lists all keys, so it also counts them.
	j.largestKeys, j.statsAfter, err = largestKeys(ctx, j.store, 5)
	if err != nil {
		return err
	}
	t := &j.tally
	j.stage = differs
	growth := j.statsAfter.Bytes - j.statsBefore.Bytes
	switch {
	case !t.Accounted():
		return filejobs.CheckTally(t)
	case t.Records != j.appended || t.RecordBytes != j.bytes:
		return fmt.Errorf("%d records with %d bytes in all were read, but %d with %d bytes were appended",
			t.Records, t.RecordBytes, j.appended, j.bytes)
	case growth != j.bytes:
		return fmt.Errorf("%d records of %d bytes were appended, but the store %s has grown by %d bytes: "+
			"either another program writes to it, or it lost data", j.appended, j.bytes, j.url, growth)
	}
	if err := j.checksumProof.compare(ctx, j.appended, j.sum); err != nil {
		return err
	}
	j.setStage(compared)
	return nil
}

// shuffleProof compares the checksum of the records read with the checksum of the store's content. To
// compute the latter, the store reads all its data.
type shuffleProof struct {
	store  partd.Checker // nil if checksums cannot be compared
	before partd.CheckResult
	result string // text for the summary
}

func (p *shuffleProof) begin(ctx context.Context, enabled bool, store partd.Partd) (err error) {
	checker, ok := store.(partd.Checker)
	if !enabled || !ok {
		return nil
	}
	p.before, err = checker.Check(ctx)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if p.before.Sum != nil {
		p.store = checker
	}
	return err
}

func (p *shuffleProof) compare(ctx context.Context, records int64, sum ledger.Sum128) error {
	if p.store == nil {
		return nil
	}
	result, err := p.store.Check(ctx)
	if err != nil {
		return err
	}
	want, got := *p.before.Sum, *result.Sum
	want.Add(partd.Sum(sum))
	if result.Records != p.before.Records+records || got != want {
		return fmt.Errorf("the store has %d records with the checksum %v, want %d with the checksum %v",
			result.Records, got, p.before.Records+records, want)
	}
	p.result = fmt.Sprintf("%s records in, the same number read back; the hashes of all keys and records add up to %v, in and out", humanize.Comma(records), sum)
	return nil
}
