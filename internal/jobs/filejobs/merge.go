package filejobs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/jobs/records"
)

// Limits of a merge: the minimum memory in bytes for each open input, and the number of open inputs.
const (
	minMergeShare       = 256 << 10
	minMergeSharePacked = 20 << 20 // enough to decompress any format
	maxOpenInputs       = 1000
)

// inputMerge merges inputs that are sorted already.
type inputMerge struct {
	*sortEngine
	job        *Job
	columns    []string // see records.Config; without a header, an empty name for each field of the first record
	share      int      // memory for each open input in bytes
	tallies    []records.Tally
	first      [][]byte // JSON lines: the first record of each input
	fieldCount atomic.Int64
}

// mergeInputs merges the job's inputs, each of which must be sorted already.
func (s *sortEngine) mergeInputs(ctx context.Context, j *Job, sorter *extsort.Sorter) error {
	files := len(j.Inputs.Files)
	m := &inputMerge{sortEngine: s, job: j, columns: j.Inputs.Columns, tallies: make([]records.Tally, files), first: make([][]byte, files)}
	memory, minShare := int(j.Memory/5*3), minMergeShare
	if j.Inputs.hasPacked {
		minShare = minMergeSharePacked
	}
	if m.columns == nil {
		m.columns = make([]string, j.Inputs.firstFieldCount(j.From))
	}
	open := maxOpenInputs
	if limit := vfs.OpenFileLimit(); limit > 0 {
		const otherFiles = 32
		open = min(open, (limit-otherFiles)/2) // temporary files need the other half
	}
	open = max(min(open, files, memory/minShare), min(files, 2))
	m.share = memory / open
	j.Inputs.mergeWindow = m.share
	err := sorter.Merge(extsort.MergeOptions{
		Inputs: files, Open: open, Block: m.block(), MaxRecord: 2 * m.maxRecord(),
		Read: func(input int, p *extsort.Presorted) error { return m.read(ctx, input, p) },
	})
	if err != nil {
		return err
	}
	err = j.writeSortedBy(sorter, func() (*converter, error) {
		j.Tally.FirstRecord = m.firstRecord()
		return newConverter(j, j.sink)
	})
	if err != nil {
		return err
	}
	j.Tally = m.total()
	return cmp.Or(CheckMembers(&j.Tally), j.Inputs.CheckSkipped(&j.Tally, j.From), CheckTally(&j.Tally))
}

// An input's share has room for three blocks of input, two blocks for the merge, and several copies of a long record.
func (m *inputMerge) block() int     { return min(m.share/16, m.job.Memory.Block()) }
func (m *inputMerge) maxRecord() int { return m.share / 10 }

// read adds the records of an input to a merge.
func (m *inputMerge) read(ctx context.Context, input int, p *extsort.Presorted) (err error) {
	j := m.job
	r := sortRecord{}
	m.tallies[input], err = records.Read(ctx, j.Inputs.Files[input:input+1], records.Config{
		Layout: j.From, Fields: m.fields, Columns: m.columns, SkipBad: j.SkipBad,
		Block: m.block(), MaxRecord: m.maxRecord(), MaxRecordShare: "the limit for each file with --merge: increase --memory", Workers: 1, Selector: j.selection.Selector(m.maxRecord()),
	}, func(b *records.Block) error {
		return p.Work(func() error { return m.add(b, &r, input, p) })
	})
	return err
}

func (m *inputMerge) add(b *records.Block, r *sortRecord, input int, p *extsort.Presorted) error {
	for b.Next() {
		count := int64(b.FieldCount())
		m.fieldCount.CompareAndSwap(0, count)
		if m.fieldCount.Load() != count {
			b.Fail(fmt.Errorf("the records of this file have %d fields, but those of another file have %d", count, m.fieldCount.Load()))
			continue
		}
		r.buf = r.buf[:0]
		include, err := m.setKey(b, r, input)
		if err == nil && include {
			err = p.Add(r.key, b.Record)
		}
		if errors.Is(err, extsort.ErrOrder) {
			b.Fail(fmt.Errorf("the file is not sorted by --by %s: this record comes before the previous one; to sort it, leave out --merge", m.by))
			continue
		}
		if err != nil {
			return ReportTooLong(b, err)
		}
		if include && m.first[input] == nil && m.job.From.Format == records.JSONL {
			m.first[input] = bytes.Clone(b.Record)
		}
	}
	return nil
}

// firstRecord returns the first record of JSON lines, or nil.
func (m *inputMerge) firstRecord() []byte {
	for _, record := range m.first {
		if record != nil {
			return record
		}
	}
	return nil
}

// total returns the sum of the inputs' tallies. It must be called after all inputs were read.
func (m *inputMerge) total() records.Tally {
	total := records.Tally{FirstRecord: m.firstRecord()}
	sawRecord := false
	for i := range m.tallies {
		t := &m.tallies[i]
		total.Add(t)
		switch {
		case t.Records+t.Dropped+t.BadRecords == 0:
		case !sawRecord:
			sawRecord, total.Absent = true, t.Absent
		default: // a member is absent if no input has it
			total.Absent = slices.DeleteFunc(total.Absent, func(f records.Field) bool {
				return !slices.ContainsFunc(t.Absent, func(o records.Field) bool { return o.Name == f.Name })
			})
		}
	}
	return total
}
